// The recurrence of a token mixer by itself, for blocks that stay with PyTorch.

#include <cstddef>
#include <cstring>

extern "C" {

/// states[rows][time][width], s_t = a_t s_{t-1} + b_t from s [rows][width] on.
void linear_scan(int rows, int time, int width, const float* a, const float* b, const float* s, float* states) {
  const auto n = static_cast<size_t>(width);
#pragma omp parallel for
  for (int row = 0; row < rows; ++row) {
    const float* before = s + static_cast<size_t>(row) * n;
    for (int t = 0; t < time; ++t) {
      const size_t at = (static_cast<size_t>(row) * static_cast<size_t>(time) + static_cast<size_t>(t)) * n;
      for (size_t c = 0; c < n; ++c) states[at + c] = a[at + c] * before[c] + b[at + c];
      before = states + at;
    }
  }
}
}
