#include "handles.h"

#include <pthread.h>
#include <string.h>

struct handle_place handle_places[HANDLE_PLACES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Places from here on have never been used; place 0 never is, so that no handle is small. */
static uint32_t unused = 1;
/* Places to be used again, oldest first, so that a stale handle is told for as long as can be. */
static uint16_t freed[HANDLE_PLACES];
static uint32_t freed_count, freed_start;
static uint64_t number;

uint64_t handle_make(void *object, uint8_t kind) {
  uint64_t handle = 0;
  pthread_mutex_lock(&lock);
  uint32_t place = 0;
  if (unused < HANDLE_PLACES) {
    place = unused++;
  } else if (freed_count > 0) {
    place = freed[freed_start];
    freed_start = (freed_start + 1) % HANDLE_PLACES;
    freed_count--;
  }
  if (place != 0) {
    /* 40 bits; a process that makes a million handles a second comes round after two weeks. */
    number = (number + 1) & 0xffffffffffu;
    if (number == 0) number = 1;
    handle = number << 24 | (uint64_t)kind << 16 | place;
    handle_places[place].object = object;
    atomic_store_explicit(&handle_places[place].handle, handle, memory_order_release);
  }
  pthread_mutex_unlock(&lock);
  return handle;
}

void *handle_take(uint64_t handle) {
  void *object = 0;
  pthread_mutex_lock(&lock);
  struct handle_place *place = &handle_places[handle & 0xffff];
  if (handle != 0 && atomic_load_explicit(&place->handle, memory_order_relaxed) == handle) {
    atomic_store_explicit(&place->handle, 0, memory_order_relaxed);
    object = place->object;
    place->object = 0;
    freed[(freed_start + freed_count) % HANDLE_PLACES] = (uint16_t)(handle & 0xffff);
    freed_count++;
  }
  pthread_mutex_unlock(&lock);
  return object;
}

static _Thread_local char note[2048];

void handle_note(const char *text) {
  size_t length = strlen(text);
  if (length >= sizeof note) {
    length = sizeof note - 1;
    /* Not in the middle of a character. */
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--;
  }
  memcpy(note, text, length);
  note[length] = 0;
}

const char *handle_noted(void) { return note; }
