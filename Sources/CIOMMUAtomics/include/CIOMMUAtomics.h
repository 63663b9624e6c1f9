#ifndef CIOMMU_ATOMICS_H
#define CIOMMU_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

// What Swift cannot say about raw memory: loads and stores of a naturally aligned word that no
// concurrent reader or writer sees half done. Header only, so that each one inlines to one
// instruction.

static inline uint64_t ciommu_load64(const void *p) {
  return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE);
}

static inline uint32_t ciommu_load32(const void *p) {
  return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE);
}

// Whether sixteen quadwords in a row are first, first + step, first + 2 * step and so on; p is a
// multiple of eight. No quadword is seen half done: x86 splits a load of sixteen bytes between
// quadwords, if at all.
static inline bool ciommu_is_series16(const void *p, uint64_t first, uint64_t step) {
#ifdef __x86_64__
  typedef uint64_t pair __attribute__((vector_size(16)));
  typedef pair unaligned_pair __attribute__((aligned(8)));
  const volatile unaligned_pair *pairs = (const volatile unaligned_pair *)p;
  pair low = (pair){first, first} + (pair){0, step}, high = low + (pair){2 * step, 2 * step};
  pair more = {4 * step, 4 * step}, differences = {0, 0};
  for (int i = 0; i < 8; i += 2) {
    differences |= (pairs[i] ^ low) | (pairs[i + 1] ^ high);
    low += more;
    high += more;
    // The compiler would otherwise work out each pair from the first one, with more instructions.
    __asm__("" : "+x"(low), "+x"(high));
  }
  return (differences[0] | differences[1]) == 0;
#else
  const uint64_t *words = (const uint64_t *)p;
  uint64_t differences = 0;
  for (int i = 0; i < 16; i++) differences |= ciommu_load64(words + i) ^ (first + step * i);
  return differences == 0;
#endif
}

static inline void ciommu_store64(void *p, uint64_t value) {
  __atomic_store_n((uint64_t *)p, value, __ATOMIC_RELEASE);
}

static inline void ciommu_store32(void *p, uint32_t value) {
  __atomic_store_n((uint32_t *)p, value, __ATOMIC_RELEASE);
}

static inline bool ciommu_compare_exchange64(void *p, uint64_t *expected, uint64_t desired) {
  return __atomic_compare_exchange_n((uint64_t *)p, expected, desired, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}

// Sequentially consistent: what comes after it in the program is not done before it.
static inline uint64_t ciommu_exchange64(void *p, uint64_t value) {
  return __atomic_exchange_n((uint64_t *)p, value, __ATOMIC_SEQ_CST);
}

// Asks for the cache line at p, and does not wait for it. Any address is allowed; nothing is read.
static inline void ciommu_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }

#endif
