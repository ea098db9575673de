// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// The hash by which connections are sampled: every program and every node keeps the same ones of a seed.
#pragma once

static __attribute__((always_inline)) inline u32 mixed(u32 h, u32 word)  // a round of MurmurHash3's 32-bit form
{
    word *= 0xcc9e2d51;
    word = word << 15 | word >> 17;
    h ^= word * 0x1b873593;
    h = h << 13 | h >> 19;
    return h * 5 + 0xe6546b64;
}

static __attribute__((always_inline)) inline u32 finished(u32 h)
{
    h ^= h >> 16;
    h *= 0x85ebca6b;
    h ^= h >> 13;
    h *= 0xc2b2ae35;
    return h ^ h >> 16;
}
