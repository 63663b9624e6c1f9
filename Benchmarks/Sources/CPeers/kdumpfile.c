#include "cpeers.h"

// The library is looked for by its soname when the program runs; the header says how it is called.
#if defined(__has_include)
#if __has_include(<libkdumpfile/kdumpfile.h>)
#include <libkdumpfile/kdumpfile.h>
#define HAS_KDUMPFILE 1
#endif
#endif

#ifdef HAS_KDUMPFILE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct kdumpfile_peer {
  void *library;
  kdump_ctx_t *context;
  int descriptor;
  __typeof__(&kdump_read) read;
  __typeof__(&kdump_free) release;
};

// ISO C has no way from a data pointer to that of a function.
#define FIND(name) \
  union { \
    void *found; \
    __typeof__(&kdump_##name) call; \
  } found_##name; \
  found_##name.found = dlsym(library, "kdump_" #name)

kdumpfile_peer *kdumpfile_peer_make(const char *path) {
  // The soname belongs to the series 0.5.
  void *library = dlopen("libkdumpfile.so.10", RTLD_NOW | RTLD_LOCAL);
  if (!library) return NULL;
  FIND(new);
  FIND(free);
  FIND(read);
  FIND(set_attr);
  kdumpfile_peer *peer = calloc(1, sizeof *peer);
  if (!peer) goto failed;
  peer->descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (peer->descriptor < 0) goto failed;
  if (!found_new.found || !found_free.found || !found_read.found || !found_set_attr.found) goto failed;
  peer->library = library;
  peer->read = found_read.call;
  peer->release = found_free.call;
  peer->context = found_new.call();
  if (!peer->context) goto failed;
  kdump_attr_t file = {.type = KDUMP_NUMBER, .val.number = (kdump_num_t)peer->descriptor};
  if (found_set_attr.call(peer->context, KDUMP_ATTR_FILE_FD, &file) != KDUMP_OK) {
    peer->release(peer->context);
    goto failed;
  }
  return peer;
failed:
  if (peer && peer->descriptor >= 0) close(peer->descriptor);
  free(peer);
  dlclose(library);
  return NULL;
}

void kdumpfile_peer_free(kdumpfile_peer *peer) {
  if (!peer) return;
  peer->release(peer->context);
  close(peer->descriptor);
  dlclose(peer->library);
  free(peer);
}

size_t kdumpfile_peer_read(kdumpfile_peer *peer, uint64_t address, void *bytes, size_t count) {
  size_t length = count;
  return peer->read(peer->context, KDUMP_MACHPHYSADDR, address, bytes, &length) == KDUMP_OK ? length : 0;
}

#else

kdumpfile_peer *kdumpfile_peer_make(const char *path) {
  (void)path;
  return NULL;
}

void kdumpfile_peer_free(kdumpfile_peer *peer) { (void)peer; }

size_t kdumpfile_peer_read(kdumpfile_peer *peer, uint64_t address, void *bytes, size_t count) {
  (void)peer, (void)address, (void)bytes, (void)count;
  return 0;
}

#endif
