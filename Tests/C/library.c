/* libiommu as C uses it: C99, and C++17 all the same. Answers are those of the manuals, or of the examples'
 * truth; what a function is not given rightly is told by its status and a text.
 *
 *   library DIRECTORY      with the repository's Examples in DIRECTORY
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommu.h"

static unsigned checks, failures;

#define CHECK(condition)                                                                              \
  do {                                                                                                \
    checks++;                                                                                         \
    if (!(condition)) {                                                                               \
      failures++;                                                                                     \
      printf("%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, iommu_last_error());         \
    }                                                                                                 \
  } while (0)
#define OK(call) CHECK((call) == IOMMU_OK)
/* A call that is refused, with a text that says `words`. */
#define REFUSED(call, status, words)                                                                  \
  do {                                                                                                \
    CHECK((call) == (status));                                                                        \
    CHECK(strstr(iommu_last_error(), words) != NULL);                                                 \
  } while (0)

#define MIB ((uint64_t)1 << 20)
#define NONE IOMMU_NO_PASID

static const char *examples;

/* The path of an example; good for the next two calls too. */
static const char *example(const char *name) {
  static char paths[3][4096];
  static unsigned turn;
  char *path = paths[turn++ % 3];
  snprintf(path, sizeof paths[0], "%s/%s", examples, name);
  return path;
}

static iommu_memory *create_memory(uint64_t size) {
  iommu_memory *memory = NULL;
  OK(iommu_memory_create(size, &memory));
  return memory;
}

static iommu_translation ask(iommu_translator *translator, uint64_t iova, uint64_t bytes, iommu_access access) {
  iommu_translation answer;
  memset(&answer, 0, sizeof answer);
  answer.size = sizeof answer;
  OK(iommu_translate_request(translator, iova, bytes, access, &answer));
  return answer;
}

/* Version, texts, devices. */
static void test_words(void) {
  CHECK(iommu_abi_version() == IOMMU_ABI_VERSION);
  CHECK(strlen(iommu_version()) >= 5);
  CHECK(strcmp(iommu_status_text(IOMMU_OK), "done") == 0);
  CHECK(strcmp(iommu_status_text(12345), "unknown status") == 0);
  CHECK(iommu_pci(0, 0, 0x1f, 2) == 0xfa);
  CHECK(iommu_pci(1, 2, 3, 4) == 0x1021c);
  iommu_device device = 0;
  OK(iommu_parse_device("0001:02:03.4", &device));
  CHECK(device == 0x1021c);
  OK(iommu_parse_device("00:1f.2", &device));
  CHECK(device == 0xfa);
  REFUSED(iommu_parse_device("00:20.0", &device), IOMMU_ERROR_ARGUMENT, "'00:20.0': ");
  REFUSED(iommu_parse_device("\xff", &device), IOMMU_ERROR_ARGUMENT, "UTF-8");
  REFUSED(iommu_parse_device(NULL, &device), IOMMU_ERROR_ARGUMENT, "null");
  REFUSED(iommu_parse_device("00:1f.2", NULL), IOMMU_ERROR_ARGUMENT, "device is null");
  CHECK(device == 0xfa);
}

/* Handles that are none. */
static void test_handles(void) {
  iommu_memory *memory = create_memory(MIB);
  iommu_machine *machine = NULL;
  OK(iommu_machine_create(&machine));
  uint64_t value = 7;
  size_t count = 7;
  REFUSED(iommu_memory_ranges(NULL, NULL, 0, &count), IOMMU_ERROR_HANDLE, "the handle is null");
  REFUSED(iommu_memory_ranges((iommu_memory *)machine, NULL, 0, &count), IOMMU_ERROR_HANDLE,
          "the handle is that of a machine: give that of a memory");
  int local = 0;
  REFUSED(iommu_memory_ranges((iommu_memory *)(void *)&local, NULL, 0, &count), IOMMU_ERROR_HANDLE,
          "is no handle, or one that was freed");
  REFUSED(iommu_memory_free((iommu_memory *)machine), IOMMU_ERROR_HANDLE, "that of a machine");
  REFUSED(iommu_tables_root((iommu_tables *)(uintptr_t)0x123456789, &value), IOMMU_ERROR_HANDLE, "no handle");
  CHECK(count == 7 && value == 7);
  OK(iommu_memory_free(NULL));
  OK(iommu_machine_free(NULL));
  OK(iommu_tables_free(NULL));
  OK(iommu_translator_free(NULL));
  OK(iommu_unit_free(NULL));
  OK(iommu_port_free(NULL));
  OK(iommu_memory_free(memory));
  REFUSED(iommu_memory_free(memory), IOMMU_ERROR_HANDLE, "freed");
  REFUSED(iommu_memory_check(memory), IOMMU_ERROR_HANDLE, "freed");
  OK(iommu_machine_free(machine));
  REFUSED(iommu_machine_unit_count(machine, &count), IOMMU_ERROR_HANDLE, "freed");
  CHECK(iommu_translate(NULL, 0, IOMMU_READ) == IOMMU_NO_ANSWER);
  CHECK(iommu_translate((iommu_translator *)memory, 0, IOMMU_READ) == IOMMU_NO_ANSWER);
#ifndef SHORT
  /* As many as there can be, and not one more; all can be made again. */
  static iommu_machine *many[65536];
  size_t made = 0;
  while (made < 65536 && iommu_machine_create(&many[made]) == IOMMU_OK) made++;
  CHECK(made >= 65000 && made < 65536);
  CHECK(strstr(iommu_last_error(), "the most there can be") != NULL);
  for (size_t index = 0; index < made; index++) OK(iommu_machine_free(many[index]));
  OK(iommu_machine_create(&machine));
  REFUSED(iommu_machine_free(many[0]), IOMMU_ERROR_HANDLE, "freed");
  OK(iommu_machine_free(machine));
#endif
}

/* The example of the README, and each answer of a request. */
static void test_vtd(void) {
  iommu_memory *memory = create_memory(MIB);
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, NULL, &tables));
  iommu_device device = iommu_pci(0, 0, 3, 0);
  OK(iommu_tables_map(tables, device, NONE, 0xfffff000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_map(tables, device, NONE, 0x10000, 0x20000, 0x2000, IOMMU_MAP_READ));
  uint64_t root = 0;
  OK(iommu_tables_root(tables, &root));
  /* The last page, and legacy mode (Intel VT-d 11.4.5). */
  CHECK(root == 0xff000);
  size_t pages = 0;
  OK(iommu_tables_page_count(tables, &pages));
  /* Root, context; four levels, of which the lower three twice but for level 3. */
  CHECK(pages == 2 + 2 + 2 * 2);
  iommu_machine *machine = NULL;
  OK(iommu_tables_machine(tables, &machine));
  size_t units = 0;
  OK(iommu_machine_unit_count(machine, &units));
  CHECK(units == 1);
  iommu_translator *translator = NULL;
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  CHECK(iommu_translate(translator, 0xfffff040, IOMMU_WRITE) == 0x8040);
  CHECK(iommu_translate(translator, 0x11fff, IOMMU_READ) == 0x21fff);
  uint64_t word = iommu_translate(translator, 0x10000, IOMMU_WRITE);
  CHECK(!IOMMU_IS_MEMORY(word));
  iommu_translation answer;
  answer.size = sizeof answer;
  OK(iommu_answer(word, &answer));
  /* Fault reason 5h: a write without write permission. */
  CHECK(answer.kind == IOMMU_FAULT && answer.hardware == IOMMU_VTD && answer.fault == 5);
  CHECK(answer.is_recorded != 0);
  CHECK(strstr(iommu_translation_text(&answer), "fault 0x5") != NULL);
  OK(iommu_answer(0x8040, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x8040 && answer.byte_count == 1);
  CHECK(iommu_translation_text(&answer)[0] == 0);
  CHECK(iommu_translation_text(NULL)[0] == 0);
  answer = ask(translator, 0x10ff0, 0x100, IOMMU_READ);
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x20ff0 && answer.byte_count == 0x10);
  answer = ask(translator, 0x1000, 4, IOMMU_READ);
  CHECK(answer.kind == IOMMU_FAULT && answer.fault == 6);
  answer = ask(translator, 0xfee00000, 4, IOMMU_WRITE);
  CHECK(answer.kind == IOMMU_INTERRUPT);
  /* Batches, and what is no batch. */
  uint64_t iovas[4] = {0xfffff000, 0x10008, 0x1000, 0xfffffff8}, answers[4];
  OK(iommu_translate_batch(translator, iovas, 4, IOMMU_READ, answers));
  CHECK(answers[0] == 0x8000 && answers[1] == 0x20008 && answers[3] == 0x8ff8);
  CHECK(answers[2] == iommu_translate(translator, 0x1000, IOMMU_READ));
  OK(iommu_translate_batch(translator, NULL, 0, IOMMU_READ, NULL));
  REFUSED(iommu_translate_batch(translator, NULL, 4, IOMMU_READ, answers), IOMMU_ERROR_ARGUMENT, "iovas is null");
  REFUSED(iommu_translate_batch(translator, iovas, 4, IOMMU_READ, NULL), IOMMU_ERROR_ARGUMENT, "answers is null");
  REFUSED(iommu_translate_batch(translator, iovas, 4, IOMMU_READ, iovas + 1), IOMMU_ERROR_ARGUMENT, "overlap");
  REFUSED(iommu_translate_batch(translator, iovas, SIZE_MAX, IOMMU_READ, answers), IOMMU_ERROR_ARGUMENT, "many");
  REFUSED(iommu_translate_batch(translator, (uint64_t *)(void *)((char *)iovas + 1), 2, IOMMU_READ, answers),
          IOMMU_ERROR_ARGUMENT, "multiples of 8");
  REFUSED(iommu_translate_batch(translator, iovas, 4, 2, answers), IOMMU_ERROR_ARGUMENT, "access is 2");
  REFUSED(iommu_translate_batch(NULL, iovas, 4, IOMMU_READ, answers), IOMMU_ERROR_HANDLE, "null");
  REFUSED(iommu_translate_batch(NULL, NULL, 0, IOMMU_READ, NULL), IOMMU_ERROR_HANDLE, "null");
  CHECK(iommu_translate(translator, 0, 9) == IOMMU_NO_ANSWER);
  CHECK(iommu_translate(translator, 0, -1) == IOMMU_NO_ANSWER);
  REFUSED(iommu_translate_request(translator, 0, 0, IOMMU_READ, &answer), IOMMU_ERROR_ARGUMENT, "byte_count is 0");
  REFUSED(iommu_translate_request(translator, 0, 1, IOMMU_READ, NULL), IOMMU_ERROR_ARGUMENT, "null");
  answer.size = 8;
  REFUSED(iommu_translate_request(translator, 0, 1, IOMMU_READ, &answer), IOMMU_ERROR_ARGUMENT, "sizeof");
  answer.size = sizeof answer;
  REFUSED(iommu_answer(UINT64_MAX, &answer), IOMMU_ERROR_ARGUMENT, "no answer");
  REFUSED(iommu_answer(UINT64_MAX >> 1, &answer), IOMMU_ERROR_ARGUMENT, "no answer");
  REFUSED(iommu_answer(0, NULL), IOMMU_ERROR_ARGUMENT, "null");
  /* The tables go on without the memory's own handle; the translator reads them anew. */
  OK(iommu_memory_free(memory));
  OK(iommu_tables_unmap(tables, device, NONE, 0x11000, 0x1000));
  CHECK(IOMMU_IS_MEMORY(iommu_translate(translator, 0x10000, IOMMU_READ)));
  CHECK(!IOMMU_IS_MEMORY(iommu_translate(translator, 0x11000, IOMMU_READ)));
  OK(iommu_tables_map(tables, device, NONE, 0x10000, 0x30000, 0x1000, IOMMU_READ_WRITE | IOMMU_REMAP));
  CHECK(iommu_translate(translator, 0x10004, IOMMU_WRITE) == 0x30004);
  REFUSED(iommu_tables_map(tables, device, NONE, 0x10000, 0x30000, 0x1000, IOMMU_READ_WRITE), IOMMU_ERROR_TABLES,
          "0x10000");
  REFUSED(iommu_tables_map(tables, device, NONE, 0x10001, 0x30000, 0x1000, IOMMU_READ_WRITE), IOMMU_ERROR_TABLES,
          "0x10001");
  REFUSED(iommu_tables_map(tables, device, NONE, 0x20000, 0x30000, 0x1000, 0), IOMMU_ERROR_TABLES, "");
  REFUSED(iommu_tables_map(tables, device, NONE, 0x20000, 0x30000, 0x1000, 0x1003), IOMMU_ERROR_UNSUPPORTED,
          "flags");
  REFUSED(iommu_tables_map(tables, device, NONE, 0x20000, UINT64_MAX - 4095, 0x10000, 3), IOMMU_ERROR_ARGUMENT,
          "past all addresses");
  REFUSED(iommu_tables_map(tables, device, NONE, UINT64_MAX - 4095, 0, 0x10000, 3), IOMMU_ERROR_ARGUMENT,
          "past all addresses");
  REFUSED(iommu_tables_map(tables, device, 1 << 20, 0, 0, 0x1000, 3), IOMMU_ERROR_ARGUMENT, "20 bits");
  REFUSED(iommu_tables_map(tables, (uint64_t)1 << 48, NONE, 0, 0, 0x1000, 3), IOMMU_ERROR_ARGUMENT, "no device");
  REFUSED(iommu_tables_map(tables, iommu_pci(1, 0, 3, 0), NONE, 0, 0, 0x1000, 3), IOMMU_ERROR_TABLES, "segment");
  REFUSED(iommu_tables_map(tables, device, 5, 0, 0, 0x1000, 3), IOMMU_ERROR_UNSUPPORTED, "scalable");
  REFUSED(iommu_tables_unmap(tables, iommu_pci(0, 0, 4, 0), NONE, 0, 0x1000), IOMMU_ERROR_TABLES, "00:04.0");
  OK(iommu_translator_free(translator));
  OK(iommu_machine_free(machine));
  OK(iommu_tables_free(tables));
}

/* Domains, PASIDs, nesting. */
static void test_domains(void) {
  iommu_memory *memory = create_memory(16 * MIB);
  iommu_vtd_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.is_scalable = 1;
  options.table_range.address = 8 * MIB;
  options.table_range.size = 4 * MIB;
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, &options, &tables));
  uint64_t root = 0;
  OK(iommu_tables_root(tables, &root));
  /* The last page of the range; TTM 01b, scalable mode. */
  CHECK(root == ((12 * MIB - 0x1000) | 0x400));
  iommu_device device = iommu_pci(0, 0, 5, 0);
  uint16_t process = 0, host = 0, guest = 0, pass = 0;
  OK(iommu_tables_create_domain(tables, IOMMU_DOMAIN_PROCESS, 0, 0, &process));
  OK(iommu_tables_bind(tables, device, 5, process));
  OK(iommu_tables_map(tables, device, 5, 0x7fff00000000, 0x8000, 0x2000, IOMMU_MAP_READ));
  OK(iommu_tables_create_domain(tables, IOMMU_DOMAIN_HOST, 4, 0, &host));
  OK(iommu_tables_map_domain(tables, host, 0x5000, 0x8000, 0x2000, IOMMU_READ_WRITE));
  OK(iommu_tables_create_domain(tables, IOMMU_DOMAIN_NESTED, 4, host, &guest));
  OK(iommu_tables_bind(tables, iommu_pci(0, 0, 6, 0), NONE, guest));
  OK(iommu_tables_map_domain(tables, guest, 0x1000, 0x5000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_create_domain(tables, IOMMU_DOMAIN_PASS_THROUGH, 0, 0, &pass));
  OK(iommu_tables_bind(tables, iommu_pci(0, 0, 7, 0), NONE, pass));
  iommu_machine *machine = NULL;
  OK(iommu_tables_machine(tables, &machine));
  iommu_translator *translator = NULL;
  OK(iommu_translator_create(machine, memory, device, 5, &translator));
  CHECK(iommu_translate(translator, 0x7fff00001004, IOMMU_READ) == 0x9004);
  OK(iommu_translator_free(translator));
  OK(iommu_translator_create(machine, memory, iommu_pci(0, 0, 6, 0), NONE, &translator));
  CHECK(iommu_translate(translator, 0x1234, IOMMU_WRITE) == 0x8234);
  OK(iommu_translator_free(translator));
  OK(iommu_translator_create(machine, memory, iommu_pci(0, 0, 7, 0), NONE, &translator));
  CHECK(iommu_translate(translator, 0x123456, IOMMU_WRITE) == 0x123456);
  OK(iommu_translator_free(translator));
  /* No entry: fault 41h, the context entry is not present. */
  OK(iommu_translator_create(machine, memory, iommu_pci(0, 0, 8, 0), NONE, &translator));
  CHECK(ask(translator, 0, 1, IOMMU_READ).fault == 0x41);
  OK(iommu_translator_free(translator));
  REFUSED(iommu_tables_remove_domain(tables, host), IOMMU_ERROR_TABLES, "use");
  REFUSED(iommu_tables_remove_domain(tables, 999), IOMMU_ERROR_TABLES, "999");
  REFUSED(iommu_tables_bind(tables, device, 6, 999), IOMMU_ERROR_TABLES, "999");
  REFUSED(iommu_tables_create_domain(tables, 9, 0, 0, &guest), IOMMU_ERROR_ARGUMENT, "kind is 9");
  REFUSED(iommu_tables_create_domain(tables, IOMMU_DOMAIN_HOST, -1, 0, &guest), IOMMU_ERROR_ARGUMENT, "levels");
  REFUSED(iommu_tables_create_domain(tables, IOMMU_DOMAIN_HOST, 6, 0, &guest), IOMMU_ERROR_UNSUPPORTED, "levels");
  REFUSED(iommu_tables_create_domain(tables, IOMMU_DOMAIN_NESTED, 4, 77, &guest), IOMMU_ERROR_TABLES, "77");
  REFUSED(iommu_tables_create_domain(tables, IOMMU_DOMAIN_HOST, 4, 0, NULL), IOMMU_ERROR_ARGUMENT, "null");
  OK(iommu_tables_unmap_domain(tables, guest, 0x1000, 0x1000));
  OK(iommu_tables_unbind(tables, iommu_pci(0, 0, 6, 0), NONE));
  OK(iommu_tables_remove_domain(tables, guest));
  REFUSED(iommu_tables_unbind(tables, iommu_pci(0, 0, 6, 0), NONE), IOMMU_ERROR_TABLES, "00:06.0");
  OK(iommu_machine_free(machine));
  OK(iommu_tables_free(tables));

  /* Options that are none. */
  options.size = 4;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "sizeof");
  options.size = sizeof options;
  options.reserved = 1;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_UNSUPPORTED, "reserved");
  options.reserved = 0;
  options.pasid_bits = 21;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "pasid_bits");
  options.pasid_bits = 0;
  options.levels = 7;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "levels");
  options.levels = 0;
  options.host_address_width = 20;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "host address width");
  options.host_address_width = 0;
  options.segment = 65536;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "segment");
  options.segment = 0;
  options.table_range.address = 64 * MIB;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_TABLES, "0x43ff000");
  options.table_range.address = UINT64_MAX;
  REFUSED(iommu_tables_create_vtd(memory, &options, &tables), IOMMU_ERROR_ARGUMENT, "past all");
  /* A structure of a later version, which asks for what is not here. */
  struct {
    iommu_vtd_options known;
    uint64_t later;
  } longer;
  memset(&longer, 0, sizeof longer);
  longer.known.size = sizeof longer;
  OK(iommu_tables_create_vtd(memory, &longer.known, &tables));
  OK(iommu_tables_free(tables));
  longer.later = 1;
  REFUSED(iommu_tables_create_vtd(memory, &longer.known, &tables), IOMMU_ERROR_UNSUPPORTED, "not have");
  REFUSED(iommu_tables_create_vtd(memory, NULL, NULL), IOMMU_ERROR_ARGUMENT, "null");
  OK(iommu_memory_free(memory));
}

/* AMD-Vi, Calgary and GART. */
static void test_other_tables(void) {
  iommu_memory *memory = create_memory(64 * MIB);
  iommu_tables *tables = NULL;
  iommu_machine *machine = NULL;
  iommu_translator *translator = NULL;
  iommu_device device = iommu_pci(0, 1, 0, 0);

  OK(iommu_tables_create_amdvi(memory, NULL, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x200000, 0x400000, 0x200000, IOMMU_READ_WRITE | IOMMU_LARGEST_PAGES));
  iommu_device process = iommu_pci(0, 1, 1, 0);
  OK(iommu_tables_map(tables, process, 5, 0x1000, 0x8000, 0x1000, IOMMU_MAP_READ));
  REFUSED(iommu_tables_map(tables, device, 5, 0x1000, 0x8000, 0x1000, 1), IOMMU_ERROR_TABLES, "nested domain");
  uint64_t root = 0;
  OK(iommu_tables_root(tables, &root));
  /* 2 MiB of table: size code 511 (AMD IOMMU 3.4). */
  CHECK((root & 0x1ff) == 511);
  OK(iommu_tables_machine(tables, &machine));
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  CHECK(iommu_translate(translator, 0x3ffffc, IOMMU_WRITE) == 0x5ffffc);
  iommu_translation answer = ask(translator, 0, 1, IOMMU_READ);
  /* IO_PAGE_FAULT, event code 2. */
  CHECK(answer.kind == IOMMU_FAULT && answer.hardware == IOMMU_AMDVI && answer.fault == 2);
  OK(iommu_translator_free(translator));
  OK(iommu_translator_create(machine, memory, process, 5, &translator));
  CHECK(iommu_translate(translator, 0x1010, IOMMU_READ) == 0x8010);
  OK(iommu_translator_free(translator));
  OK(iommu_machine_free(machine));
  OK(iommu_tables_free(tables));
  iommu_amdvi_options amdvi;
  memset(&amdvi, 0, sizeof amdvi);
  amdvi.size = sizeof amdvi;
  amdvi.last_bus = 256;
  REFUSED(iommu_tables_create_amdvi(memory, &amdvi, &tables), IOMMU_ERROR_ARGUMENT, "last_bus");
  amdvi.last_bus = 1;
  amdvi.pasid_bits = 21;
  REFUSED(iommu_tables_create_amdvi(memory, &amdvi, &tables), IOMMU_ERROR_ARGUMENT, "pasid_bits");
  amdvi.pasid_bits = 0;
  OK(iommu_tables_create_amdvi(memory, &amdvi, &tables));
  REFUSED(iommu_tables_map(tables, iommu_pci(0, 2, 0, 0), NONE, 0, 0x8000, 0x1000, 3), IOMMU_ERROR_TABLES,
          "more buses");
  OK(iommu_tables_free(tables));

  iommu_calgary_bridge bridges[2];
  memset(bridges, 0, sizeof bridges);
  bridges[1].first_bus = bridges[1].last_bus = 1;
  iommu_calgary_options calgary;
  memset(&calgary, 0, sizeof calgary);
  calgary.size = sizeof calgary;
  calgary.bridges = bridges;
  calgary.bridge_count = 2;
  OK(iommu_tables_create_calgary(memory, &calgary, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x100000, 0x8000, 0x1000, IOMMU_MAP_READ));
  OK(iommu_tables_machine(tables, &machine));
  OK(iommu_translator_create(machine, memory, iommu_pci(0, 1, 9, 0), NONE, &translator));
  CHECK(iommu_translate(translator, 0x100008, IOMMU_READ) == 0x8008);
  answer = ask(translator, 0x100008, 1, IOMMU_WRITE);
  CHECK(answer.kind == IOMMU_FAULT && answer.hardware == IOMMU_CALGARY && answer.fault == -1);
  OK(iommu_translator_free(translator));
  OK(iommu_machine_free(machine));
  uint16_t domain = 0;
  size_t count = 0;
  REFUSED(iommu_tables_create_domain(tables, 0, 0, 0, &domain), IOMMU_ERROR_UNSUPPORTED, "no domains");
  REFUSED(iommu_tables_page_count(tables, &count), IOMMU_ERROR_UNSUPPORTED, "no domains");
  REFUSED(iommu_tables_map(tables, device, 1, 0x200000, 0x8000, 0x1000, 3), IOMMU_ERROR_UNSUPPORTED, "PASID");
  OK(iommu_tables_unmap(tables, device, NONE, 0x100000, 0x1000));
  OK(iommu_tables_free(tables));
  calgary.bridge_count = 5;
  REFUSED(iommu_tables_create_calgary(memory, &calgary, &tables), IOMMU_ERROR_ARGUMENT, "one to four");
  calgary.bridge_count = 2;
  bridges[0].first_bus = 3;
  REFUSED(iommu_tables_create_calgary(memory, &calgary, &tables), IOMMU_ERROR_ARGUMENT, "not below");
  calgary.bridges = NULL;
  calgary.table_size = 12345;
  REFUSED(iommu_tables_create_calgary(memory, &calgary, &tables), IOMMU_ERROR_ARGUMENT, "table_size");

  OK(iommu_tables_create_gart(memory, NULL, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x80000000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_machine(tables, &machine));
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  CHECK(iommu_translate(translator, 0x80000abc, IOMMU_READ) == 0x8abc);
  CHECK(iommu_translate(translator, 0x7ffff000, IOMMU_READ) == 0x7ffff000);
  CHECK(ask(translator, 0x80001000, 1, IOMMU_READ).hardware == IOMMU_GART);
  OK(iommu_translator_free(translator));
  OK(iommu_machine_free(machine));
  REFUSED(iommu_tables_map(tables, device, NONE, 0x80001000, 0x8000, 0x1000, IOMMU_MAP_READ),
          IOMMU_ERROR_UNSUPPORTED, "GATT");
  OK(iommu_tables_free(tables));
  iommu_gart_options gart;
  memset(&gart, 0, sizeof gart);
  gart.size = sizeof gart;
  gart.order = 9;
  REFUSED(iommu_tables_create_gart(memory, &gart, &tables), IOMMU_ERROR_UNSUPPORTED, "order 9");
  OK(iommu_memory_free(memory));
}

static int released;
static void release(void *context) { released += *(int *)context; }

/* Memory of the caller's own. */
static void test_adopted(void) {
  size_t size = 2 * MIB;
  char *bytes = (char *)mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(bytes != MAP_FAILED);
  iommu_ram ram[2] = {{0, bytes, size}, {0x100000000, bytes + size, size}};
  int one = 1;
  iommu_memory *memory = NULL;
  OK(iommu_memory_adopt(ram, 2, release, &one, &memory));
  iommu_range ranges[2];
  size_t count = 0;
  OK(iommu_memory_ranges(memory, ranges, 1, &count));
  CHECK(count == 2 && ranges[0].address == 0 && ranges[0].size == size);
  OK(iommu_memory_ranges(memory, ranges, 2, &count));
  CHECK(ranges[1].address == 0x100000000 && ranges[1].size == size);
  size_t done = 0;
  OK(iommu_memory_write(memory, 0x100000ffe, "DMA", 3, &done));
  CHECK(done == 3 && memcmp(bytes + size + 0xffe, "DMA", 3) == 0);
  char text[8] = {0};
  OK(iommu_memory_read(memory, 0x100000ffe, text, 3, &done));
  CHECK(done == 3 && strcmp(text, "DMA") == 0);
  OK(iommu_memory_read(memory, size - 2, text, 8, &done));
  CHECK(done == 2);
  OK(iommu_memory_read(memory, 16 * MIB, text, 8, &done));
  CHECK(done == 0);
  OK(iommu_memory_read(memory, 0, NULL, 0, &done));
  CHECK(done == 0);
  REFUSED(iommu_memory_read(memory, 0, NULL, 8, &done), IOMMU_ERROR_ARGUMENT, "bytes is null");
  REFUSED(iommu_memory_write(memory, 0, text, 8, NULL), IOMMU_ERROR_ARGUMENT, "done is null");
  OK(iommu_memory_check(memory));
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, NULL, &tables));
  OK(iommu_tables_map(tables, iommu_pci(0, 0, 3, 0), NONE, 0x1000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  uint64_t root = 0, entry = 0;
  OK(iommu_tables_root(tables, &root));
  /* Above 4 GiB, where the last range ends; the root entry of bus 0 is there in place, and present. */
  CHECK(root == 0x1001ff000);
  memcpy(&entry, bytes + size + 0x1ff000, 8);
  CHECK((entry & 1) == 1);
  OK(iommu_memory_free(memory));
  CHECK(released == 0);
  OK(iommu_tables_free(tables));
  CHECK(released == 1);

  iommu_ram bad = {0x800, bytes, size};
  REFUSED(iommu_memory_adopt(&bad, 1, release, &one, &memory), IOMMU_ERROR_MEMORY, "0x800");
  bad.address = 0;
  bad.bytes = bytes + 1;
  REFUSED(iommu_memory_adopt(&bad, 1, release, &one, &memory), IOMMU_ERROR_MEMORY, "");
  bad.bytes = bytes;
  bad.size = 100;
  REFUSED(iommu_memory_adopt(&bad, 1, release, &one, &memory), IOMMU_ERROR_MEMORY, "");
  bad.size = UINT64_MAX;
  REFUSED(iommu_memory_adopt(&bad, 1, release, &one, &memory), IOMMU_ERROR_ARGUMENT, "more than there can be");
  bad.bytes = NULL;
  bad.size = size;
  REFUSED(iommu_memory_adopt(&bad, 1, release, &one, &memory), IOMMU_ERROR_ARGUMENT, "null");
  iommu_ram both[2] = {{0, bytes, size}, {0x1000, bytes + size, size}};
  REFUSED(iommu_memory_adopt(both, 2, release, &one, &memory), IOMMU_ERROR_MEMORY, "");
  REFUSED(iommu_memory_adopt(NULL, 1, release, &one, &memory), IOMMU_ERROR_ARGUMENT, "ram is null");
  REFUSED(iommu_memory_adopt(NULL, 0, release, &one, &memory), IOMMU_ERROR_MEMORY, "");
  REFUSED(iommu_memory_create(0, &memory), IOMMU_ERROR_MEMORY, "");
  REFUSED(iommu_memory_create(100, &memory), IOMMU_ERROR_MEMORY, "");
  CHECK(released == 1);
  munmap(bytes, 2 * size);
}

/* Memory that is asked for, and that may become less. */
struct store {
  unsigned char bytes[64 * 4096];
  size_t limit, write_limit;
  int released, exchanges;
};

static size_t store_read(void *context, uint64_t address, void *bytes, size_t size) {
  struct store *store = (struct store *)context;
  if (address >= store->limit) return 0;
  if (size > store->limit - address) size = store->limit - address;
  memcpy(bytes, store->bytes + address, size);
  return size;
}

static size_t store_write(void *context, uint64_t address, const void *bytes, size_t size) {
  struct store *store = (struct store *)context;
  if (address >= store->write_limit) return 0;
  memcpy(store->bytes + address, bytes, size);
  return size;
}

static int32_t store_exchange(void *context, uint64_t address, uint64_t *expected, uint64_t desired) {
  struct store *store = (struct store *)context;
  uint64_t found;
  memcpy(&found, store->bytes + address, 8);
  store->exchanges++;
  if (found != *expected) {
    *expected = found;
    return 0;
  }
  memcpy(store->bytes + address, &desired, 8);
  return 1;
}

static void store_release(void *context) { ((struct store *)context)->released++; }

/* Answers more than it was asked for. */
static size_t boasting_read(void *context, uint64_t address, void *bytes, size_t size) {
  (void)context;
  (void)address;
  memset(bytes, 0xff, size);
  return size + 4096;
}

static void test_called(void) {
  struct store *store = (struct store *)calloc(1, sizeof *store);
  store->limit = store->write_limit = sizeof store->bytes;
  iommu_range range = {0, sizeof store->bytes};
  iommu_memory_calls calls;
  memset(&calls, 0, sizeof calls);
  calls.size = sizeof calls;
  calls.context = store;
  calls.ranges = &range;
  calls.range_count = 1;
  calls.read = store_read;
  calls.write = store_write;
  calls.compare_exchange = store_exchange;
  calls.release = store_release;
  iommu_memory *memory = NULL;
  OK(iommu_memory_create_with_calls(&calls, &memory));
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, NULL, &tables));
  iommu_device device = iommu_pci(0, 0, 3, 0);
  OK(iommu_tables_map(tables, device, NONE, 0x1000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  iommu_machine *machine = NULL;
  OK(iommu_tables_machine(tables, &machine));
  iommu_translator *translator = NULL;
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  CHECK(iommu_translate(translator, 0x1abc, IOMMU_WRITE) == 0x8abc);
  uint64_t iovas[2] = {0x1000, 0x2000}, answers[2];
  OK(iommu_translate_batch(translator, iovas, 2, IOMMU_READ, answers));
  CHECK(answers[0] == 0x8000 && !IOMMU_IS_MEMORY(answers[1]));
  iommu_unit *unit = NULL;
  REFUSED(iommu_unit_create(memory, IOMMU_VTD, NULL, &unit), IOMMU_ERROR_UNSUPPORTED, "in place");
  /* It takes no more stores: what is asked for is not whole, and somebody says so. */
  store->write_limit = 0;
  REFUSED(iommu_tables_map(tables, device, NONE, 0x40000000, 0x9000, 0x1000, 3), IOMMU_ERROR_MEMORY, "not taken");
  store->write_limit = store->limit;
  /* It becomes smaller: tables are no longer there, fault 8h to 0ah or 7 say so and not a trap. */
  store->limit = 0x1000;
  iommu_translation answer = ask(translator, 0x1000, 1, IOMMU_READ);
  CHECK(answer.kind == IOMMU_FAULT && answer.is_unanswered != 0);
  OK(iommu_translator_free(translator));
  OK(iommu_tables_free(tables));
  OK(iommu_machine_free(machine));
  CHECK(store->released == 0);
  OK(iommu_memory_free(memory));
  CHECK(store->released == 1);

  calls.read = boasting_read;
  calls.write = NULL;
  calls.is_dump = 1;
  OK(iommu_memory_create_with_calls(&calls, &memory));
  size_t done = 7;
  char byte;
  OK(iommu_memory_read(memory, 0, &byte, 1, &done));
  CHECK(done == 0);
  REFUSED(iommu_tables_create_vtd(memory, NULL, &tables), IOMMU_ERROR_UNSUPPORTED, "no write");
  OK(iommu_memory_free(memory));
  calls.read = NULL;
  REFUSED(iommu_memory_create_with_calls(&calls, &memory), IOMMU_ERROR_ARGUMENT, "read is null");
  calls.read = store_read;
  calls.range_count = 0;
  REFUSED(iommu_memory_create_with_calls(&calls, &memory), IOMMU_ERROR_ARGUMENT, "ranges is empty");
  iommu_range descending[2] = {{0x2000, 0x1000}, {0x1000, 0x1000}};
  calls.ranges = descending;
  calls.range_count = 2;
  REFUSED(iommu_memory_create_with_calls(&calls, &memory), IOMMU_ERROR_ARGUMENT, "ascending");
  calls.size = 0;
  REFUSED(iommu_memory_create_with_calls(&calls, &memory), IOMMU_ERROR_ARGUMENT, "sizeof");
  REFUSED(iommu_memory_create_with_calls(NULL, &memory), IOMMU_ERROR_ARGUMENT, "read is null");
  CHECK(store->released == 2);
  free(store);
}

/* Dumps. */
struct seen {
  int count, certain, unknown, broken, stop_after;
  uint64_t first, bytes;
  char text[256];
};

static int32_t see_step(const iommu_walk_step *step, void *context) {
  struct seen *seen = (struct seen *)context;
  seen->count++;
  if (seen->count == 1) seen->first = step->address;
  snprintf(seen->text, sizeof seen->text, "%s level %d %" PRIx64 " of %u", step->name, (int)step->level,
           step->words[0], (unsigned)step->word_count);
  return seen->stop_after != 0 && seen->count == seen->stop_after;
}

static int32_t see_mapping(const iommu_mapping *mapping, void *context) {
  struct seen *seen = (struct seen *)context;
  seen->count++;
  seen->bytes += mapping->byte_count;
  if (strcmp(mapping->owner, "00:03.0") == 0 && mapping->iova == 0xffefd000) seen->first = mapping->physical;
  return seen->stop_after != 0 && seen->count == seen->stop_after;
}

static int32_t see_unknown(const char *text, void *context) {
  (void)text;
  ((struct seen *)context)->unknown++;
  return 0;
}

static int32_t see_candidate(const iommu_candidate *candidate, void *context) {
  struct seen *seen = (struct seen *)context;
  if (seen->count++ == 0) {
    seen->first = candidate->address;
    snprintf(seen->text, sizeof seen->text, "%s", candidate->kind);
    seen->certain = candidate->is_certain;
  }
  return 0;
}

static int32_t see_verdict(const iommu_verdict *verdict, void *context) {
  struct seen *seen = (struct seen *)context;
  seen->count++;
  if (verdict->outcome == IOMMU_BROKEN && verdict->findings[0] != 0) seen->broken++;
  return 0;
}

static void test_dump(void) {
  char path[4096];
  snprintf(path, sizeof path, "%s", example("vtd-crash/image.elf"));
  const char *paths[1] = {path};
  iommu_memory *memory = NULL;
  OK(iommu_memory_open(paths, 1, &memory));
  struct seen seen;
  memset(&seen, 0, sizeof seen);
  OK(iommu_find(memory, see_candidate, &seen));
  CHECK(seen.first == 0x6a04000 && seen.certain != 0 && strcmp(seen.text, "VT-d root table") == 0);
  REFUSED(iommu_find(memory, NULL, NULL), IOMMU_ERROR_ARGUMENT, "null");
  iommu_machine *found = NULL, *machine = NULL;
  OK(iommu_machine_find(memory, &found));
  OK(iommu_machine_open(example("vtd-crash/machine.json"), &machine));
  iommu_device device = iommu_pci(0, 0, 3, 0);
  iommu_translation answer;
  answer.size = sizeof answer;
  memset(&seen, 0, sizeof seen);
  OK(iommu_walk(machine, memory, device, NONE, 0xffefd123, IOMMU_WRITE, see_step, &seen, &answer));
  /* As README shows it. */
  CHECK(seen.count == 6 && seen.first == 0x6a04000);
  CHECK(strcmp(seen.text, "SS-PTE level 1 7663003 of 1") == 0);
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x7663123 && answer.byte_count == 3805);
  OK(iommu_walk(found, memory, device, NONE, 0xffefd123, IOMMU_WRITE, NULL, NULL, NULL));
  seen.count = 0;
  seen.stop_after = 2;
  CHECK(iommu_walk(machine, memory, device, NONE, 0xffefd123, IOMMU_WRITE, see_step, &seen, &answer) == IOMMU_STOPPED);
  CHECK(seen.count == 2);
  memset(&seen, 0, sizeof seen);
  OK(iommu_maps(machine, memory, see_mapping, see_unknown, &seen));
  CHECK(seen.count > 100 && seen.first == 0x7663000 && seen.unknown == 0);
  seen.count = 0;
  seen.stop_after = 3;
  CHECK(iommu_maps(machine, memory, see_mapping, NULL, &seen) == IOMMU_STOPPED);
  CHECK(seen.count == 3);
  REFUSED(iommu_maps(machine, memory, NULL, NULL, NULL), IOMMU_ERROR_ARGUMENT, "null");

  iommu_outcome conclusion = -1;
  iommu_machine *silent = NULL;
  OK(iommu_machine_create(&silent));
  REFUSED(iommu_verify(silent, memory, NULL, 0, NULL, NULL, &conclusion), IOMMU_ERROR_NOT_FOUND, "crash kernel");
  OK(iommu_machine_free(silent));
  iommu_range crash = {0x15000000, 0xa000000};
  OK(iommu_machine_set_crash_kernel(machine, &crash, 1));
  memset(&seen, 0, sizeof seen);
  OK(iommu_verify(machine, memory, NULL, 0, see_verdict, &seen, &conclusion));
  /* Nobody mapped the crash kernel to itself: R1 is broken. */
  CHECK(seen.count == 13 && seen.broken > 0 && conclusion == IOMMU_BROKEN);
  REFUSED(iommu_verify(machine, memory, NULL, 1, NULL, NULL, &conclusion), IOMMU_ERROR_ARGUMENT, "devices is null");
  REFUSED(iommu_verify(machine, memory, NULL, 0, NULL, NULL, NULL), IOMMU_ERROR_ARGUMENT, "conclusion is null");
  crash.address = UINT64_MAX;
  REFUSED(iommu_machine_set_crash_kernel(machine, &crash, 1), IOMMU_ERROR_ARGUMENT, "past all");
  size_t done = 0;
  REFUSED(iommu_memory_write(memory, 0, "x", 1, &done), IOMMU_ERROR_UNSUPPORTED, "dump");
  iommu_tables *tables = NULL;
  REFUSED(iommu_tables_create_vtd(memory, NULL, &tables), IOMMU_ERROR_UNSUPPORTED, "dump");
  iommu_translator *translator = NULL;
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  CHECK(iommu_translate(translator, 0xffefd123, IOMMU_WRITE) == 0x7663123);
  OK(iommu_translator_free(translator));
  REFUSED(iommu_translator_create(machine, memory, iommu_pci(5, 0, 3, 0), NONE, &translator),
          IOMMU_ERROR_NOT_FOUND, "5");
  OK(iommu_memory_free(memory));

  /* The same units from their registers: RTADDR_REG of the machine file. */
  iommu_machine *registers = NULL;
  OK(iommu_machine_create(&registers));
  iommu_vtd_registers vtd;
  memset(&vtd, 0, sizeof vtd);
  vtd.size = sizeof vtd;
  vtd.root_table_address = 0x6a04000;
  OK(iommu_machine_add_vtd(registers, &vtd));
  OK(iommu_memory_open(paths, 1, &memory));
  OK(iommu_walk(registers, memory, device, NONE, 0xffefd123, IOMMU_WRITE, NULL, NULL, &answer));
  CHECK(answer.physical == 0x7663123);
  /* A unit of three levels alone, and an entry that says four: fault 3h, and no doubt. */
  iommu_machine *narrow = NULL;
  OK(iommu_machine_create(&narrow));
  vtd.capability = 2 << 8 | 47 << 16;
  OK(iommu_machine_add_vtd(narrow, &vtd));
  OK(iommu_walk(narrow, memory, device, NONE, 0xffefd123, IOMMU_WRITE, NULL, NULL, &answer));
  CHECK(answer.kind == IOMMU_FAULT && answer.fault == 3 && answer.is_unanswered == 0);
  OK(iommu_machine_free(narrow));
  vtd.size = 7;
  REFUSED(iommu_machine_add_vtd(registers, &vtd), IOMMU_ERROR_ARGUMENT, "sizeof");
  iommu_amdvi_registers amdvi;
  memset(&amdvi, 0, sizeof amdvi);
  amdvi.size = sizeof amdvi;
  amdvi.segment = 70000;
  REFUSED(iommu_machine_add_amdvi(registers, &amdvi), IOMMU_ERROR_ARGUMENT, "segment");
  amdvi.segment = 1;
  OK(iommu_machine_add_amdvi(registers, &amdvi));
  iommu_calgary_registers calgary;
  memset(&calgary, 0, sizeof calgary);
  calgary.size = sizeof calgary;
  REFUSED(iommu_machine_add_calgary(registers, &calgary), IOMMU_ERROR_ARGUMENT, "one to four");
  iommu_gart_registers gart;
  memset(&gart, 0, sizeof gart);
  gart.size = sizeof gart;
  OK(iommu_machine_add_gart(registers, &gart));
  size_t count = 0;
  OK(iommu_machine_unit_count(registers, &count));
  CHECK(count == 3);
  OK(iommu_machine_free(registers));
  OK(iommu_machine_free(found));
  OK(iommu_machine_free(machine));
  OK(iommu_memory_free(memory));

  REFUSED(iommu_machine_open(example("no such file"), &machine), IOMMU_ERROR_INPUT, "no such file");
  REFUSED(iommu_machine_open(example("vtd-crash/maps.tsv"), &machine), IOMMU_ERROR_INPUT, "maps.tsv");
  const char *missing[1] = {example("no such file")};
  REFUSED(iommu_memory_open(missing, 1, &memory), IOMMU_ERROR_INPUT, "no such file");
  REFUSED(iommu_memory_open(NULL, 0, &memory), IOMMU_ERROR_ARGUMENT, "name a file");
  missing[0] = NULL;
  REFUSED(iommu_memory_open(missing, 1, &memory), IOMMU_ERROR_ARGUMENT, "null");
  memory = create_memory(MIB);
  REFUSED(iommu_machine_find(memory, &machine), IOMMU_ERROR_NOT_FOUND, "no table was found");
  OK(iommu_memory_free(memory));
}

/* A dump whose file is cut while it is open. */
static void test_shrinking_dump(void) {
  char path[] = "/tmp/iommu-dump-XXXXXX";
  int file = mkstemp(path);
  CHECK(file >= 0 && ftruncate(file, 4 * MIB) == 0);
  CHECK(pwrite(file, "here", 4, MIB) == 4);
  const char *paths[1] = {path};
  iommu_memory *memory = NULL;
  OK(iommu_memory_open(paths, 1, &memory));
  char bytes[4] = {0};
  size_t done = 0;
  OK(iommu_memory_read(memory, MIB, bytes, 4, &done));
  CHECK(done == 4 && memcmp(bytes, "here", 4) == 0);
  OK(iommu_memory_check(memory));
  CHECK(ftruncate(file, 4096) == 0);
  OK(iommu_memory_read(memory, MIB, bytes, 4, &done));
  REFUSED(iommu_memory_check(memory), IOMMU_ERROR_INPUT, path);
  struct seen seen;
  memset(&seen, 0, sizeof seen);
  REFUSED(iommu_find(memory, see_candidate, &seen), IOMMU_ERROR_INPUT, path);
  OK(iommu_memory_free(memory));
  close(file);
  unlink(path);
}

/* Live units. */
static int interrupts;
static uint64_t interrupt_address;
static uint32_t interrupt_data;

static void interrupt(uint64_t address, uint32_t data, void *context) {
  *(int *)context += 1;
  interrupt_address = address;
  interrupt_data = data;
}

static void set_register(iommu_unit *unit, uint64_t offset, uint32_t width, uint64_t value) {
  OK(iommu_unit_write(unit, offset, width, value));
}

static uint64_t get_register(iommu_unit *unit, uint64_t offset, uint32_t width) {
  uint64_t value = 0;
  OK(iommu_unit_read(unit, offset, width, &value));
  return value;
}

static void test_vtd_unit(void) {
  /* Adopted memory: the unit works in the caller's bytes. */
  size_t size = 4 * MIB;
  char *bytes = (char *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  iommu_ram ram = {0, bytes, size};
  iommu_memory *memory = NULL;
  OK(iommu_memory_adopt(&ram, 1, NULL, NULL, &memory));
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, NULL, &tables));
  iommu_device device = iommu_pci(0, 0, 3, 0);
  OK(iommu_tables_map(tables, device, NONE, 0x1000, 0x8000, 0x2000, IOMMU_READ_WRITE));
  OK(iommu_tables_map(tables, device, NONE, 0x5000, 0xa000, 0x1000, IOMMU_MAP_READ));
  uint64_t root = 0;
  OK(iommu_tables_root(tables, &root));
  iommu_unit_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.model = "qemu";
  options.interrupt = interrupt;
  options.context = &interrupts;
  iommu_unit *unit = NULL;
  OK(iommu_unit_create(memory, IOMMU_VTD, &options, &unit));
  uint64_t window = 0;
  OK(iommu_unit_window_size(unit, &window));
  CHECK(window == 0x1000);
  CHECK(get_register(unit, 0, 4) == 0x10);
  CHECK(get_register(unit, 8, 8) == 0x00d2008c222f0606);
  iommu_port *port = NULL;
  OK(iommu_port_create(unit, &port));
  iommu_translation answer;
  answer.size = sizeof answer;
  /* Off: addresses pass as they are. */
  OK(iommu_port_translate(port, device, NONE, 0x1234, 4, IOMMU_READ, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x1234);
  set_register(unit, 0x20, 8, root);
  set_register(unit, 0x18, 4, 0x40000000);
  CHECK((get_register(unit, 0x1c, 4) & 0x40000000) != 0);
  set_register(unit, 0x18, 4, 0x80000000);
  CHECK((get_register(unit, 0x1c, 4) & 0x80000000) != 0);
  OK(iommu_port_translate(port, device, NONE, 0x1234, 4, IOMMU_READ, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x8234);
  uint64_t iovas[3] = {0x1000, 0x2010, 0x9000}, answers[3];
  OK(iommu_port_translate_batch(port, device, iovas, 3, IOMMU_READ, answers));
  CHECK(answers[0] == 0x8000 && answers[1] == 0x9010 && !IOMMU_IS_MEMORY(answers[2]));
  OK(iommu_port_translate_batch(port, device, NULL, 0, IOMMU_READ, NULL));
  /* Fault events: the first fault waits, as they are masked after a reset. FSTS.PPF, and record 0 with reason 6. */
  CHECK((get_register(unit, 0x34, 4) & 2) != 0);
  set_register(unit, 0x3c, 4, 0x4321);
  set_register(unit, 0x40, 4, 0xfee01000);
  set_register(unit, 0x38, 4, 0);
  CHECK(interrupts == 1 && interrupt_address == 0xfee01000 && interrupt_data == 0x4321);
  /* FRO of CAP_REG, times 16: bits 127:96 of record 0 have the reason in their lowest byte. */
  CHECK((get_register(unit, 0x220 + 12, 4) & 0xff) == 6);
  /* A device's DMA: two pages and a half are asked for, two are mapped. */
  memset(bytes + 0x8000, 0x5a, 0x2000);
  char buffer[0x2800];
  size_t done = 0;
  OK(iommu_port_dma(port, device, NONE, 0x1000, buffer, sizeof buffer, IOMMU_READ, &done, &answer));
  CHECK(done == 0x2000 && buffer[0] == 0x5a && buffer[0x1fff] == 0x5a);
  CHECK(answer.kind == IOMMU_FAULT && answer.fault == 6);
  memset(buffer, 0x77, sizeof buffer);
  OK(iommu_port_dma(port, device, NONE, 0x1ffe, buffer, 4, IOMMU_WRITE, &done, NULL));
  CHECK(done == 4 && bytes[0x8ffe] == 0x77 && bytes[0x9001] == 0x77 && bytes[0x9002] == 0x5a);
  OK(iommu_port_dma(port, device, NONE, 0x5000, buffer, 4, IOMMU_WRITE, &done, &answer));
  CHECK(done == 0 && answer.fault == 5);
  REFUSED(iommu_port_dma(port, device, NONE, UINT64_MAX, buffer, 4, IOMMU_WRITE, &done, NULL), IOMMU_ERROR_ARGUMENT,
          "last address");
  REFUSED(iommu_port_dma(port, device, NONE, 0, NULL, 4, IOMMU_WRITE, &done, NULL), IOMMU_ERROR_ARGUMENT, "null");
  REFUSED(iommu_port_dma(port, device, NONE, 0, buffer, 0, IOMMU_WRITE, &done, NULL), IOMMU_ERROR_ARGUMENT, "bytes");
  /* Interrupts are not remapped: a message in compatibility format passes. */
  iommu_interrupt message;
  message.size = sizeof message;
  OK(iommu_unit_remap_interrupt(unit, device, 0xfee00000, 0x31, &message));
  CHECK(message.kind == IOMMU_INTERRUPT_PASSED && message.fault == -1);
  REFUSED(iommu_unit_remap_interrupt(unit, device, 0x1000, 0x31, &message), IOMMU_ERROR_ARGUMENT, "0xfee00000");
  message.size = 0;
  REFUSED(iommu_unit_remap_interrupt(unit, device, 0xfee00000, 0x31, &message), IOMMU_ERROR_ARGUMENT, "sizeof");
  /* What is no access. */
  uint64_t value = 0;
  REFUSED(iommu_unit_read(unit, 0, 0, &value), IOMMU_ERROR_ARGUMENT, "width");
  REFUSED(iommu_unit_read(unit, 0, 9, &value), IOMMU_ERROR_ARGUMENT, "width");
  REFUSED(iommu_unit_write(unit, 0, 16, 0), IOMMU_ERROR_ARGUMENT, "width");
  OK(iommu_unit_read(unit, UINT64_MAX, 8, &value));
  CHECK(value == 0);
  OK(iommu_unit_write(unit, UINT64_MAX, 8, 1));
  OK(iommu_unit_write(unit, 3, 4, 1));
  REFUSED(iommu_unit_read_configuration(unit, 0, 0, 4, &value), IOMMU_ERROR_UNSUPPORTED, "configuration");
  REFUSED(iommu_port_translate(port, device, NONE, 0, 0, IOMMU_READ, &answer), IOMMU_ERROR_ARGUMENT, "byte_count");
  /* A reset: translation is off again. */
  OK(iommu_unit_reset(unit));
  OK(iommu_port_translate(port, device, NONE, 0x1234, 4, IOMMU_READ, &answer));
  CHECK(answer.physical == 0x1234);
  /* The port keeps the unit. */
  OK(iommu_unit_free(unit));
  OK(iommu_port_translate(port, device, NONE, 0x1234, 4, IOMMU_READ, &answer));
  OK(iommu_port_free(port));

  options.model = "no such model";
  REFUSED(iommu_unit_create(memory, IOMMU_VTD, &options, &unit), IOMMU_ERROR_ARGUMENT, "2008, current, qemu");
  options.model = NULL;
  options.capability = UINT64_MAX;
  REFUSED(iommu_unit_create(memory, IOMMU_VTD, &options, &unit), IOMMU_ERROR_ARGUMENT, "CAP_REG");
  REFUSED(iommu_unit_create(memory, 17, NULL, &unit), IOMMU_ERROR_ARGUMENT, "hardware is 17");
  REFUSED(iommu_unit_create(memory, IOMMU_VTD, NULL, NULL), IOMMU_ERROR_ARGUMENT, "null");
  OK(iommu_tables_free(tables));
  OK(iommu_memory_free(memory));
  munmap(bytes, size);
}

static uint64_t swapped(uint64_t value) {
  uint64_t result = 0;
  for (int index = 0; index < 8; index++) result = result << 8 | (value >> 8 * index & 0xff);
  return result;
}

static void test_other_units(void) {
  iommu_memory *memory = create_memory(64 * MIB);
  iommu_tables *tables = NULL;
  iommu_unit *unit = NULL;
  iommu_port *port = NULL;
  iommu_translation answer;
  answer.size = sizeof answer;
  uint64_t root = 0, value = 0;
  iommu_device device = iommu_pci(0, 1, 0, 0);

  OK(iommu_tables_create_amdvi(memory, NULL, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x1000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_root(tables, &root));
  OK(iommu_unit_create(memory, IOMMU_AMDVI, NULL, &unit));
  OK(iommu_port_create(unit, &port));
  set_register(unit, 0, 8, root);
  set_register(unit, 0x18, 8, get_register(unit, 0x18, 8) | 1);
  OK(iommu_port_translate(port, device, NONE, 0x1040, 4, IOMMU_WRITE, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x8040);
  OK(iommu_port_translate(port, device, NONE, 0x3000, 4, IOMMU_WRITE, &answer));
  CHECK(answer.kind == IOMMU_FAULT && answer.hardware == IOMMU_AMDVI && answer.fault == 2);
  uint64_t iovas[2] = {0x1000, 0x3000}, answers[2];
  OK(iommu_port_translate_batch(port, device, iovas, 2, IOMMU_READ, answers));
  CHECK(answers[0] == 0x8000 && !IOMMU_IS_MEMORY(answers[1]));
  /* The function: AMD's vendor number. */
  OK(iommu_unit_read_configuration(unit, 0, 0, 4, &value));
  CHECK((value & 0xffff) == 0x1022);
  OK(iommu_unit_write_configuration(unit, 0, 4, 4, 6));
  REFUSED(iommu_unit_read_configuration(unit, 0, 2, 2, &value), IOMMU_ERROR_ARGUMENT, "doublewords");
  REFUSED(iommu_unit_read_configuration(unit, 0, 4096, 4, &value), IOMMU_ERROR_ARGUMENT, "0x1000");
  iommu_interrupt message;
  message.size = sizeof message;
  OK(iommu_unit_remap_interrupt(unit, device, 0xfee00000, 0x31, &message));
  OK(iommu_unit_reset(unit));
  OK(iommu_port_free(port));
  OK(iommu_unit_free(unit));
  OK(iommu_tables_free(tables));

  OK(iommu_tables_create_calgary(memory, NULL, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x100000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_root(tables, &root));
  OK(iommu_unit_create(memory, IOMMU_CALGARY, NULL, &unit));
  OK(iommu_port_create(unit, &port));
  OK(iommu_unit_window_size(unit, &value));
  CHECK(value == MIB);
  /* TAR of bridge 0 at 0x580, and its configuration at 0x8160: TCE_ENABLE, bit 29; both are big-endian. */
  set_register(unit, 0x580, 8, swapped(root));
  CHECK(get_register(unit, 0x580, 8) == swapped(root));
  uint64_t configuration = swapped(get_register(unit, 0x8160, 4)) >> 32;
  set_register(unit, 0x8160, 4, swapped(configuration | 1 << 29) >> 32);
  OK(iommu_port_translate(port, device, NONE, 0x100040, 4, IOMMU_WRITE, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x8040);
  REFUSED(iommu_unit_remap_interrupt(unit, device, 0xfee00000, 0, &message), IOMMU_ERROR_UNSUPPORTED, "interrupts");
  OK(iommu_unit_reset(unit));
  OK(iommu_port_free(port));
  OK(iommu_unit_free(unit));
  OK(iommu_tables_free(tables));

  OK(iommu_tables_create_gart(memory, NULL, &tables));
  OK(iommu_tables_map(tables, device, NONE, 0x80000000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  OK(iommu_tables_root(tables, &root));
  OK(iommu_unit_create(memory, IOMMU_GART, NULL, &unit));
  OK(iommu_port_create(unit, &port));
  /* 00:18.3: base 2 GiB in units of 32 MiB, table, and then 64 MiB, on. */
  OK(iommu_unit_write_configuration(unit, 0xc3, 0x94, 4, 0x80000000u >> 25));
  OK(iommu_unit_write_configuration(unit, 0xc3, 0x98, 4, root));
  OK(iommu_unit_write_configuration(unit, 0xc3, 0x90, 4, 1 << 1 | 1));
  OK(iommu_unit_read_configuration(unit, 0xc3, 0x90, 4, &value));
  CHECK((value & 0xf) == 3);
  OK(iommu_port_translate(port, device, NONE, 0x80000040, 4, IOMMU_READ, &answer));
  CHECK(answer.kind == IOMMU_MEMORY && answer.physical == 0x8040);
  OK(iommu_port_translate(port, device, NONE, 0x80001000, 4, IOMMU_READ, &answer));
  CHECK(answer.kind == IOMMU_FAULT && answer.hardware == IOMMU_GART);
  OK(iommu_unit_window_size(unit, &value));
  CHECK(value == 0);
  REFUSED(iommu_unit_read(unit, 0, 4, &value), IOMMU_ERROR_UNSUPPORTED, "window");
  OK(iommu_unit_reset(unit));
  OK(iommu_port_free(port));
  OK(iommu_unit_free(unit));
  iommu_unit_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.node_count = 9;
  REFUSED(iommu_unit_create(memory, IOMMU_GART, &options, &unit), IOMMU_ERROR_ARGUMENT, "nodes");
  options.node_count = 0;
  options.bridge_count = 7;
  options.bridges = (iommu_calgary_bridge *)calloc(7, sizeof(iommu_calgary_bridge));
  REFUSED(iommu_unit_create(memory, IOMMU_CALGARY, &options, &unit), IOMMU_ERROR_ARGUMENT, "one to four");
  free((void *)options.bridges);
  OK(iommu_tables_free(tables));
  OK(iommu_memory_free(memory));
}

/* Several threads: translators are shared, ports are each thread's own, errors too. */
struct worker {
  iommu_translator *translator;
  iommu_unit *unit;
  uint64_t wrong;
};

static void *work(void *context) {
  struct worker *worker = (struct worker *)context;
  iommu_port *port = NULL;
  if (iommu_port_create(worker->unit, &port) != IOMMU_OK) worker->wrong++;
  for (uint64_t round = 0; round < 2000; round++) {
    if (iommu_translate(worker->translator, 0x1000 + round % 4096, IOMMU_READ) != 0x8000 + round % 4096)
      worker->wrong++;
    iommu_translation answer;
    answer.size = sizeof answer;
    if (iommu_port_translate(port, iommu_pci(0, 0, 3, 0), NONE, 0x1000, 4, IOMMU_READ, &answer) != IOMMU_OK)
      worker->wrong++;
    iommu_machine *machine = NULL;
    if (iommu_machine_create(&machine) != IOMMU_OK || iommu_machine_free(machine) != IOMMU_OK) worker->wrong++;
    if (iommu_machine_free(machine) != IOMMU_ERROR_HANDLE) worker->wrong++;
  }
  if (iommu_port_free(port) != IOMMU_OK) worker->wrong++;
  if (strstr(iommu_last_error(), "freed") == NULL) worker->wrong++;
  return NULL;
}

static void test_threads(void) {
  iommu_memory *memory = create_memory(MIB);
  iommu_tables *tables = NULL;
  OK(iommu_tables_create_vtd(memory, NULL, &tables));
  iommu_device device = iommu_pci(0, 0, 3, 0);
  OK(iommu_tables_map(tables, device, NONE, 0x1000, 0x8000, 0x1000, IOMMU_READ_WRITE));
  iommu_machine *machine = NULL;
  OK(iommu_tables_machine(tables, &machine));
  struct worker workers[4];
  iommu_translator *translator = NULL;
  OK(iommu_translator_create(machine, memory, device, NONE, &translator));
  iommu_unit *unit = NULL;
  OK(iommu_unit_create(memory, IOMMU_VTD, NULL, &unit));
  pthread_t threads[4];
  REFUSED(iommu_memory_check(NULL), IOMMU_ERROR_HANDLE, "the handle is null");
  for (int index = 0; index < 4; index++) {
    workers[index].translator = translator;
    workers[index].unit = unit;
    workers[index].wrong = 0;
    CHECK(pthread_create(&threads[index], NULL, work, &workers[index]) == 0);
  }
  for (int index = 0; index < 4; index++) {
    pthread_join(threads[index], NULL);
    CHECK(workers[index].wrong == 0);
  }
  CHECK(strstr(iommu_last_error(), "the handle is null") != NULL);
  OK(iommu_unit_free(unit));
  OK(iommu_translator_free(translator));
  OK(iommu_machine_free(machine));
  OK(iommu_tables_free(tables));
  OK(iommu_memory_free(memory));
}

int main(int argc, char **argv) {
  examples = argc > 1 ? argv[1] : "Examples";
  test_words();
  test_handles();
  test_vtd();
  test_domains();
  test_other_tables();
  test_adopted();
  test_called();
  test_dump();
  test_shrinking_dump();
  test_vtd_unit();
  test_other_units();
  test_threads();
  printf("%u passed, %u failed\n", checks - failures, failures);
  return failures != 0;
}
