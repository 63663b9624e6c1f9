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
