// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// Registers under the kernel's own names: arch/x86/include/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h.
#pragma once
#include <uapi/linux/types.h>
#if defined(__aarch64__) || defined(__TARGET_ARCH_arm64)
struct user_pt_regs { __u64 regs[31], sp, pc, pstate; };
struct pt_regs { union { struct user_pt_regs user_regs; struct { __u64 regs[31], sp, pc, pstate; }; }; };
#else
struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss; };
#endif
