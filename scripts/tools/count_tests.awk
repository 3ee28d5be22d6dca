# Sums the test cases that ctest, GoogleTest, node:test, vitest and pytest report at their end: "PASSED FAILED SKIPPED".
{ gsub(/\033\[[0-9;]*m/, "") }
/^[0-9]+% tests passed, [0-9]+ tests failed out of [0-9]+/ { failed += $4; passed += $NF - $4 }   # ctest
/^[ \t]+[0-9]+ - .* \(Skipped\)$/ { skipped += 1; passed -= 1 }
/^(#|ℹ) pass [0-9]+$/ { passed += $3 }                                                            # node:test
/^(#|ℹ) fail [0-9]+$/ { failed += $3 }
/^(#|ℹ) skipped [0-9]+$/ { skipped += $3 }
/^ +Tests  / || /^(=+ )?[0-9]+ (passed|failed|skipped|error|errors|xfailed|deselected|warning).* in [0-9.]+s/ {  # vitest, pytest
  for (i = 1; i < NF; i++) {
    if ($(i + 1) ~ /^passed/) passed += $i
    if ($(i + 1) ~ /^(failed|error)/) failed += $i
    if ($(i + 1) ~ /^skipped/) skipped += $i
  }
}
END { print passed + 0, failed + 0, skipped + 0 }
