#include "cpeers.h"

// The library is looked for by its soname when the program runs; the header says how it is called.
// The soname belongs to the series 0.5.
#if defined(__has_include)
#if __has_include(<libkdumpfile/addrxlat.h>)
#include <libkdumpfile/addrxlat.h>
#if ADDRXLAT_VERSION >= ADDRXLAT_MKVER(0, 5, 0) && ADDRXLAT_VERSION < ADDRXLAT_MKVER(0, 6, 0)
#define HAS_ADDRXLAT 1
#endif
#endif
#endif

#ifdef HAS_ADDRXLAT

#include <dlfcn.h>
#include <stdlib.h>

struct addrxlat_peer {
  void *library;
  addrxlat_ctx_t *context;
  addrxlat_meth_t method;
  const uint8_t *memory;
  size_t byte_count;
  unsigned long (*release)(addrxlat_ctx_t *);
  addrxlat_status (*walk)(addrxlat_step_t *);
};

static void keep_page(const addrxlat_buffer_t *buffer) { (void)buffer; }

// All of memory is one page: the library asks once, keeps the answer, and reads in place.
static addrxlat_status get_page(const addrxlat_cb_t *callback, addrxlat_buffer_t *buffer) {
  const addrxlat_peer *peer = callback->priv;
  if (buffer->addr.addr >= peer->byte_count) return ADDRXLAT_ERR_NODATA;
  buffer->addr.addr = 0;
  buffer->ptr = peer->memory;
  buffer->size = peer->byte_count;
  buffer->byte_order = ADDRXLAT_LITTLE_ENDIAN;
  buffer->put_page = keep_page;
  return ADDRXLAT_OK;
}

static unsigned long read_caps(const addrxlat_cb_t *callback) {
  (void)callback;
  return ADDRXLAT_CAPS(ADDRXLAT_MACHPHYSADDR);
}

addrxlat_peer *addrxlat_peer_make(const uint8_t *memory, size_t byte_count, uint64_t root) {
  void *library = dlopen("libaddrxlat.so.3", RTLD_NOW | RTLD_LOCAL);
  if (!library) return NULL;
  addrxlat_ctx_t *(*make)(void) = (addrxlat_ctx_t * (*)(void)) dlsym(library, "addrxlat_ctx_new");
  addrxlat_cb_t *(*add_callback)(addrxlat_ctx_t *) =
      (addrxlat_cb_t * (*)(addrxlat_ctx_t *)) dlsym(library, "addrxlat_ctx_add_cb");
  addrxlat_peer *peer = calloc(1, sizeof *peer);
  if (!peer) goto failed;
  peer->release = (unsigned long (*)(addrxlat_ctx_t *))dlsym(library, "addrxlat_ctx_decref");
  peer->walk = (addrxlat_status(*)(addrxlat_step_t *))dlsym(library, "addrxlat_walk");
  if (!make || !add_callback || !peer->release || !peer->walk) goto failed;
  peer->library = library;
  peer->memory = memory;
  peer->byte_count = byte_count;
  peer->method = (addrxlat_meth_t){
      .kind = ADDRXLAT_PGT,
      .target_as = ADDRXLAT_MACHPHYSADDR,
      .param.pgt = {.root = {root, ADDRXLAT_MACHPHYSADDR},
                    .pf = {ADDRXLAT_PTE_X86_64, 5, {12, 9, 9, 9, 9}}}};
  peer->context = make();
  if (!peer->context) goto failed;
  addrxlat_cb_t *callback = add_callback(peer->context);
  if (!callback) {
    peer->release(peer->context);
    goto failed;
  }
  callback->priv = peer;
  callback->get_page = get_page;
  callback->read_caps = read_caps;
  return peer;
failed:
  free(peer);
  dlclose(library);
  return NULL;
}

void addrxlat_peer_free(addrxlat_peer *peer) {
  if (!peer) return;
  peer->release(peer->context);
  dlclose(peer->library);
  free(peer);
}

void addrxlat_peer_walk(const addrxlat_peer *peer, const uint64_t *addresses, uint64_t *answers,
                        size_t count) {
  addrxlat_step_t step = {.ctx = peer->context, .meth = &peer->method};
  for (size_t i = 0; i < count; i++) {
    step.base = (addrxlat_fulladdr_t){addresses[i], ADDRXLAT_KVADDR};
    answers[i] = peer->walk(&step) == ADDRXLAT_OK ? step.base.addr : ~0ull;
  }
}

#else

addrxlat_peer *addrxlat_peer_make(const uint8_t *memory, size_t byte_count, uint64_t root) {
  (void)memory, (void)byte_count, (void)root;
  return NULL;
}

void addrxlat_peer_free(addrxlat_peer *peer) { (void)peer; }

void addrxlat_peer_walk(const addrxlat_peer *peer, const uint64_t *addresses, uint64_t *answers,
                        size_t count) {
  (void)peer, (void)addresses, (void)answers, (void)count;
}

#endif
