#include "handles.h"

#include <pthread.h>
#include <string.h>

/* No handle: its place is another one. */
#define NEVER {1, 0}
struct handle_place handle_places[HANDLE_PLACES] = {NEVER};
struct handle_place translator_places[HANDLE_PLACES] = {NEVER};

/* Which places of a table are free. */
struct room {
  struct handle_place *places;
  /* Places that have been used, place 0 among them. */
  uint32_t used;
  /* Places to be used again, oldest first, so that a stale handle is told for as long as can be. */
  uint16_t freed[HANDLE_PLACES];
  uint32_t freed_count, freed_start;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct room rooms[2] = {{.places = handle_places}, {.places = translator_places}};
static uint64_t number;

static struct room *room_of(uint8_t kind) { return &rooms[kind == HANDLE_KIND_FLAT_TRANSLATOR]; }

uint64_t handle_make(void *object, uint8_t kind) {
  uint64_t handle = 0;
  struct room *room = room_of(kind);
  pthread_mutex_lock(&lock);
  uint32_t place = 0;
  if (room->used < HANDLE_PLACES - 1) {
    place = ++room->used;
  } else if (room->freed_count > 0) {
    place = room->freed[room->freed_start];
    room->freed_start = (room->freed_start + 1) % HANDLE_PLACES;
    room->freed_count--;
  }
  if (place != 0) {
    /* 40 bits; a process that makes a million handles a second comes round after twelve days. */
    number = (number + 1) & 0xffffffffffu;
    if (number == 0) number = 1;
    handle = number << 24 | (uint64_t)kind << 16 | place;
    room->places[place].object = object;
    atomic_store_explicit(&room->places[place].handle, handle, memory_order_release);
  }
  pthread_mutex_unlock(&lock);
  return handle;
}

void *handle_take(uint64_t handle) {
  void *object = 0;
  struct room *room = room_of(handle_kind(handle));
  pthread_mutex_lock(&lock);
  object = handle_in(room->places, handle);
  if (object) {
    /* The object stays where it was: whoever looks at the place at this moment finds something, if not for long. */
    atomic_store_explicit(&room->places[handle & 0xffff].handle, 0, memory_order_relaxed);
    room->freed[(room->freed_start + room->freed_count) % HANDLE_PLACES] = (uint16_t)(handle & 0xffff);
    room->freed_count++;
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
