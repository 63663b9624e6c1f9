#include "../../../Sources/CIOMMU/include/iommu.h"
#include "cpeers.h"

// libiommu as a program has it that links with it: every call goes through the shared library.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct library_peer {
  void *library;
  iommu_memory *memory;
  iommu_machine *machine;
  iommu_translator *translator;
  uint64_t (*translate)(iommu_translator *, uint64_t, iommu_access);
  iommu_status (*translate_batch)(iommu_translator *, const uint64_t *, size_t, iommu_access, uint64_t *);
};

// ISO C has no way from a data pointer to that of a function.
#define FIND(name) \
  union { \
    void *found; \
    __typeof__(&iommu_##name) call; \
  } name; \
  name.found = dlsym(library, "iommu_" #name)

library_peer *library_peer_make(const char *path, void *memory, size_t byte_count, uint64_t root, uint16_t requester) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return NULL;
  FIND(memory_adopt);
  FIND(machine_create);
  FIND(machine_add_vtd);
  FIND(translator_create);
  FIND(translate);
  FIND(translate_batch);
  library_peer *peer = calloc(1, sizeof *peer);
  iommu_ram ram = {0, memory, byte_count};
  iommu_vtd_registers registers;
  memset(&registers, 0, sizeof registers);
  registers.size = sizeof registers;
  registers.root_table_address = root;
  if (!peer || memory_adopt.call(&ram, 1, NULL, NULL, &peer->memory) != IOMMU_OK ||
      machine_create.call(&peer->machine) != IOMMU_OK ||
      machine_add_vtd.call(peer->machine, &registers) != IOMMU_OK ||
      translator_create.call(peer->machine, peer->memory, requester, IOMMU_NO_PASID, &peer->translator) != IOMMU_OK) {
    // What was made stays: the program ends soon.
    free(peer);
    return NULL;
  }
  peer->library = library;
  peer->translate = translate.call;
  peer->translate_batch = translate_batch.call;
  return peer;
}

void library_peer_calls(const library_peer *peer, const uint64_t *addresses, uint64_t *answers, size_t count) {
  // What a program that links with the library has in registers, or in its table of symbols.
  uint64_t (*translate)(iommu_translator *, uint64_t, iommu_access) = peer->translate;
  iommu_translator *translator = peer->translator;
  for (size_t index = 0; index < count; index++)
    answers[index] = translate(translator, addresses[index], IOMMU_READ);
}

void library_peer_batch(const library_peer *peer, const uint64_t *addresses, uint64_t *answers, size_t count) {
  peer->translate_batch(peer->translator, addresses, count, IOMMU_READ, answers);
}
