/* The tables of handles, and what each thread was told last. Not for users of the library.
 *
 * A handle is 64 bits: 63:24 a number that is never given twice to the same place, 23:16 what kind of object,
 * 15:0 the place. A place holds the handle that is valid there; all others that lead to it are stale. Translators
 * of memory that lies in place have a table to themselves: whatever is valid there is one. */
#ifndef HANDLES_H
#define HANDLES_H

#include <stdatomic.h>
#include <stdint.h>

#define HANDLE_PLACES 65536

struct handle_place {
  _Atomic uint64_t handle;
  void *object;
};

/* Place 0 is never given out, and holds what is no handle: a null pointer is not valid there. */
extern struct handle_place handle_places[HANDLE_PLACES] __attribute__((visibility("hidden")));
extern struct handle_place translator_places[HANDLE_PLACES] __attribute__((visibility("hidden")));

#define HANDLE_KIND_FLAT_TRANSLATOR 6

static inline uint8_t handle_kind(uint64_t handle) { return (uint8_t)(handle >> 16); }

/* The object of a handle that is valid in a table; null for any other. */
static inline void *handle_in(struct handle_place *places, uint64_t handle) {
  struct handle_place *place = &places[handle & 0xffff];
  if (atomic_load_explicit(&place->handle, memory_order_acquire) != handle) return 0;
  void *object = place->object;
  if (!object) __builtin_unreachable();
  return object;
}

/* The object of a handle, if it is a translator of memory that lies in place. */
static inline void *handle_flat_translator(uint64_t handle) { return handle_in(translator_places, handle); }

/* The object of a handle of any kind. */
static inline void *handle_object(uint64_t handle) {
  return handle_in(handle_kind(handle) == HANDLE_KIND_FLAT_TRANSLATOR ? translator_places : handle_places, handle);
}

/* A handle for an object; 0 when all places are taken. */
uint64_t handle_make(void *object, uint8_t kind) __attribute__((visibility("hidden")));

/* Makes a handle stale, and returns its object; null when it was already. */
void *handle_take(uint64_t handle) __attribute__((visibility("hidden")));

/* Keeps a text for iommu_last_error(). */
void handle_note(const char *text) __attribute__((visibility("hidden")));
const char *handle_noted(void) __attribute__((visibility("hidden")));

#endif
