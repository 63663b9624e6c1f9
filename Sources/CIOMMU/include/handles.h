/* The table of handles, and what each thread was told last. Not for users of the library.
 *
 * A handle is 64 bits: 63:24 a number that is never given twice to the same place, 23:16 what kind of object,
 * 15:0 the place. A place holds the handle that is valid there; all others that lead to it are stale. */
#ifndef IOMMU_HANDLES_H
#define IOMMU_HANDLES_H

#include <stdatomic.h>
#include <stdint.h>

#define IOMMU_HANDLE_PLACES 65536

struct iommu_handle_place {
  _Atomic uint64_t handle;
  void *object;
};

extern struct iommu_handle_place iommu_handle_places[IOMMU_HANDLE_PLACES] __attribute__((visibility("hidden")));

/* The object of a handle; null for one that is not valid. */
static inline void *iommu_handle_object(uint64_t handle) {
  struct iommu_handle_place *place = &iommu_handle_places[handle & 0xffff];
  if (atomic_load_explicit(&place->handle, memory_order_acquire) != handle) return 0;
  return place->object;
}

static inline uint8_t iommu_handle_kind(uint64_t handle) { return (uint8_t)(handle >> 16); }

/* A handle for an object; 0 when all places are taken. */
uint64_t iommu_handle_make(void *object, uint8_t kind) __attribute__((visibility("hidden")));

/* Makes a handle stale, and returns its object; null when it was already. */
void *iommu_handle_take(uint64_t handle) __attribute__((visibility("hidden")));

/* Keeps a text for iommu_last_error(). */
void iommu_handle_note(const char *text) __attribute__((visibility("hidden")));
const char *iommu_handle_noted(void) __attribute__((visibility("hidden")));

#endif
