;; Dot products alone, with the one instruction of relaxed SIMD.
;; SPDX-License-Identifier: MIT
(module
  ;; 16 products each, 8 chains that do not wait for each other.
  (func (export "dot") (param $rounds i32) (result i32)
    (local $x v128)
    (local $w v128)
    (local $s0 v128)
    (local $s1 v128)
    (local $s2 v128)
    (local $s3 v128)
    (local $s4 v128)
    (local $s5 v128)
    (local $s6 v128)
    (local $s7 v128)
    (local.set $x (i8x16.splat (local.get $rounds)))
    (local.set $w (v128.and (local.get $x) (i8x16.splat (i32.const 3))))
    (loop $more
      (local.set $s0 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s0)))
      (local.set $s1 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s1)))
      (local.set $s2 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s2)))
      (local.set $s3 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s3)))
      (local.set $s4 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s4)))
      (local.set $s5 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s5)))
      (local.set $s6 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s6)))
      (local.set $s7 (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $x) (local.get $w) (local.get $s7)))
      (br_if $more (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i32x4.extract_lane 0 (i32x4.add (i32x4.add (i32x4.add (i32x4.add (i32x4.add (i32x4.add (i32x4.add (local.get $s0) (local.get $s1)) (local.get $s2)) (local.get $s3)) (local.get $s4)) (local.get $s5)) (local.get $s6)) (local.get $s7)))))
