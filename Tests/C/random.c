/* Calls of libiommu with arguments drawn at random, sensible ones and others: none may end the program, and
 * every status has to be one that there is.
 *
 *   random SEED COUNT DIRECTORY      with the repository's Examples in DIRECTORY
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iommu.h"

static uint64_t state;

static uint64_t next(void) {
  /* xorshift64*, by George Marsaglia and Sebastiano Vigna. */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1dull;
}
static uint64_t below(uint64_t limit) { return next() % limit; }

/* A number that something depends on, or one beside it, or any. */
static uint64_t number(void) {
  static const uint64_t known[] = {0, 1, 4, 8, 64, 4095, 4096, 0x8000, 0xa0000, 1 << 20, 2 << 20, 0x40000000,
                                   0x80000000, 0xfee00000, 0xfee01004, 0x100000000, (uint64_t)1 << 39,
                                   (uint64_t)1 << 47, (uint64_t)1 << 48, (uint64_t)1 << 52, UINT64_MAX - 4095,
                                   UINT64_MAX, INT64_MAX, (uint64_t)1 << 63, 0xffff800000000000};
  switch (below(6)) {
    case 0: return next();
    case 1: return next() & 0xfffff000;
    case 2: return known[below(sizeof known / sizeof *known)] + below(3) - 1;
    case 3: return below(64) << 12;
    default: return known[below(sizeof known / sizeof *known)];
  }
}
static uint64_t page(void) { return below(8) ? below(2048) << 12 : number(); }
static uint32_t small(void) { return below(16) ? (uint32_t)below(10) : (uint32_t)number(); }
static iommu_device device(void) { return below(16) ? iommu_pci(0, (uint8_t)below(3), (uint8_t)below(4), 0) : number(); }
static uint32_t pasid(void) { return below(4) ? IOMMU_NO_PASID : below(4) ? (uint32_t)below(8) : (uint32_t)next(); }

/* Handles of a kind, valid and not. */
#define PLACES 12
static void *handles[5][PLACES];
enum { MEMORY, MACHINE, TRANSLATOR, TABLES, UNIT };
static void *ports[PLACES];
static void *pick(int kind) {
  if (below(40) == 0) return (void *)(uintptr_t)number();
  if (below(40) == 0) return handles[below(5)][below(PLACES)];
  return handles[kind][below(PLACES)];
}
#define NEW(kind) (void *)&handles[kind][below(PLACES)]

static int32_t look(const void *what, void *context) {
  (void)what;
  return context != NULL && below(64) == 0;
}
static int32_t look_step(const iommu_walk_step *what, void *context) { return look(what, context); }
static int32_t look_mapping(const iommu_mapping *what, void *context) { return look(what->owner, context); }
static int32_t look_text(const char *what, void *context) { return look(what, context); }
static int32_t look_candidate(const iommu_candidate *what, void *context) { return look(what->kind, context); }
static int32_t look_verdict(const iommu_verdict *what, void *context) { return look(what->findings, context); }

static unsigned char store[256 * 4096];
static size_t read_store(void *context, uint64_t address, void *bytes, size_t size) {
  (void)context;
  if (address > sizeof store || size > sizeof store - address) return below(2) ? 0 : size + 1;
  memcpy(bytes, store + address, size);
  return below(50) ? size : below(size + 1);
}
static size_t write_store(void *context, uint64_t address, const void *bytes, size_t size) {
  (void)context;
  if (address > sizeof store || size > sizeof store - address) return 0;
  memcpy(store + address, bytes, size);
  return below(200) ? size : 0;
}

static iommu_status make_memory(void) {
  switch (below(3)) {
    case 0: {
      if (below(4)) return iommu_memory_create((1 + below(4096)) << 12, NEW(MEMORY));
      /* Of any size, and given back at once: what looks for tables goes through all that there is. */
      iommu_memory *memory = NULL;
      iommu_status status = iommu_memory_create(number(), &memory);
      return status == IOMMU_OK ? iommu_memory_free(memory) : status;
    }
    case 1: {
      iommu_range range = {below(8) ? 0 : number(), below(8) ? sizeof store : number() & 0xfffffff};
      iommu_memory_calls calls;
      memset(&calls, 0, sizeof calls);
      calls.size = below(8) ? sizeof calls : number();
      calls.ranges = &range;
      calls.range_count = 1;
      calls.read = read_store;
      calls.write = below(8) ? write_store : NULL;
      calls.is_dump = (int32_t)below(2);
      return iommu_memory_create_with_calls(&calls, NEW(MEMORY));
    }
    default: {
      static unsigned char *ram;
      if (!ram) ram = (unsigned char *)calloc(1, 8 << 20);
      unsigned char *start = (unsigned char *)(((uintptr_t)ram + 4095) & ~(uintptr_t)4095);
      iommu_ram pieces[2] = {{below(4) ? 0 : page(), start, (1 + below(512)) << 12},
                             {(uint64_t)1 << 32, start + (4 << 20), (1 + below(512)) << 12}};
      return iommu_memory_adopt(pieces, 1 + below(2), NULL, NULL, NEW(MEMORY));
    }
  }
}

static iommu_status make_machine(void) {
  iommu_machine *machine = (iommu_machine *)pick(MACHINE);
  switch (below(8)) {
    case 0: return iommu_machine_create(NEW(MACHINE));
    case 1: return iommu_machine_find((iommu_memory *)pick(MEMORY), NEW(MACHINE));
    case 2: {
      iommu_vtd_registers r = {sizeof r, number(), number(), below(2) ? 0 : number(), below(2) ? 0 : number(), number(),
                               below(2) ? 0 : (uint32_t)number(), below(4) ? 0 : small() * 8, below(4) ? 0 : small(), 0};
      return iommu_machine_add_vtd(machine, &r);
    }
    case 3: {
      iommu_amdvi_registers r = {sizeof r, number(), number(), below(2) ? 0 : number(), below(2) ? 0 : number(),
                                 below(4) ? 0 : small(), 0};
      return iommu_machine_add_amdvi(machine, &r);
    }
    case 4: {
      iommu_calgary_bridge bridges[4];
      memset(bridges, 0, sizeof bridges);
      for (int index = 0; index < 4; index++) {
        bridges[index].first_bus = (uint8_t)below(4);
        bridges[index].last_bus = (uint8_t)below(6);
        bridges[index].table_address = number();
        bridges[index].configuration = (uint32_t)number();
      }
      iommu_calgary_registers r = {sizeof r, number(), bridges, below(5), (int32_t)below(2), 0};
      return iommu_machine_add_calgary(machine, &r);
    }
    case 5: {
      iommu_gart_registers r = {sizeof r, (uint16_t)number(), 0, (uint32_t)number(), (uint32_t)number(), (uint32_t)number()};
      return iommu_machine_add_gart(machine, &r);
    }
    case 6: {
      iommu_range ranges[2] = {{page(), page()}, {page(), page()}};
      return iommu_machine_set_crash_kernel(machine, ranges, below(3));
    }
    default: return iommu_tables_machine((iommu_tables *)pick(TABLES), NEW(MACHINE));
  }
}

static iommu_range table_range(void) {
  iommu_range range = {0, 0};
  if (below(3) == 0) range.address = page(), range.size = page();
  return range;
}

static iommu_status make_tables(void) {
  iommu_memory *memory = (iommu_memory *)pick(MEMORY);
  switch (below(4)) {
    case 0: {
      iommu_vtd_options o = {sizeof o, below(3) ? 0 : number(), below(3) ? 0 : number(), table_range(), (int32_t)below(2),
                             below(4) ? 0 : (int32_t)small(), below(4) ? 0 : (int32_t)(small() + 10), below(4) ? 0 : small() * 8,
                             below(4) ? 0 : small(), 0};
      return iommu_tables_create_vtd(memory, &o, NEW(TABLES));
    }
    case 1: {
      iommu_amdvi_options o = {sizeof o, below(3) ? 0 : number(), table_range(), small(), below(4) ? 0 : (int32_t)(small() * 3),
                               below(4) ? 0 : small(), 0};
      return iommu_tables_create_amdvi(memory, &o, NEW(TABLES));
    }
    case 2: {
      iommu_calgary_options o = {sizeof o, table_range(), below(3) ? (uint64_t)65536 << below(9) : number(), NULL, 0,
                                 (int32_t)below(2), 0};
      return iommu_tables_create_calgary(memory, &o, NEW(TABLES));
    }
    default: {
      iommu_gart_options o = {sizeof o, table_range(), below(2) ? 0 : number(), (int32_t)small(), 0};
      return iommu_tables_create_gart(memory, &o, NEW(TABLES));
    }
  }
}

static iommu_status change_tables(void) {
  iommu_tables *tables = (iommu_tables *)pick(TABLES);
  const uint64_t iova = below(2) ? page() : number(), physical = page(), size = below(4) ? (1 + below(600)) << 12 : number();
  const uint32_t flags = below(8) ? (uint32_t)(below(4) | below(4) << 8) : (uint32_t)number();
  const uint16_t domain = (uint16_t)(below(8) ? below(5) : number());
  uint16_t made;
  switch (below(10)) {
    case 0: return iommu_tables_unmap(tables, device(), pasid(), iova, size);
    case 1: return iommu_tables_create_domain(tables, (int32_t)small(), (int32_t)small(), domain, &made);
    case 2: return iommu_tables_remove_domain(tables, domain);
    case 3: return iommu_tables_map_domain(tables, domain, iova, physical, size, flags);
    case 4: return iommu_tables_unmap_domain(tables, domain, iova, size);
    case 5: return iommu_tables_bind(tables, device(), pasid(), domain);
    case 6: return iommu_tables_unbind(tables, device(), pasid());
    case 7: return iommu_tables_map_identity(tables, device(), pasid(), physical, size, flags);
    default: return iommu_tables_map(tables, device(), pasid(), iova, physical, size, flags);
  }
}

static iommu_status make_unit(void) {
  static const char *const models[] = {"qemu", "2008", "current", "calgary", "calioc2", ""};
  iommu_unit_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.model = below(4) ? models[below(5)] : below(2) ? models[5] : NULL;
  if (below(4) == 0) o.capability = number();
  if (below(4) == 0) o.extended_capability = number();
  o.has_no_caches = (int32_t)below(2);
  o.node_count = (int32_t)below(4);
  iommu_status status = iommu_unit_create((iommu_memory *)pick(MEMORY), (int32_t)below(6), &o, NEW(UNIT));
  if (status == IOMMU_OK) (void)iommu_port_create((iommu_unit *)pick(UNIT), (void *)&ports[below(PLACES)]);
  return status;
}

static iommu_status use_unit(void) {
  iommu_unit *unit = (iommu_unit *)pick(UNIT);
  iommu_port *port = (iommu_port *)(below(20) ? ports[below(PLACES)] : pick(UNIT));
  static unsigned char bytes[16384];
  uint64_t value = 0, iovas[8], answers[8];
  size_t done;
  iommu_translation answer;
  answer.size = sizeof answer;
  iommu_interrupt message;
  message.size = sizeof message;
  const uint64_t offset = below(4) ? below(0x400) & ~(uint64_t)3 : below(2) ? below(0x10000) : number();
  const uint32_t width = below(8) ? (below(2) ? 4 : 8) : small();
  /* Roots of tables that are there, often. */
  if (below(2)) (void)iommu_tables_root((iommu_tables *)pick(TABLES), &value);
  if (value == 0) value = below(2) ? (uint64_t)1 << below(64) : number();
  switch (below(9)) {
    case 0: return iommu_unit_read(unit, offset, width, &value);
    case 1:
    case 2: return iommu_unit_write(unit, offset, width, value);
    case 3: return iommu_unit_read_configuration(unit, (uint16_t)(below(2) ? 0xc3 : next()), (uint32_t)offset, width, &value);
    case 4: return iommu_unit_write_configuration(unit, (uint16_t)(below(2) ? 0xc3 : next()), (uint32_t)offset, width, value);
    case 5: return iommu_unit_remap_interrupt(unit, device(), 0xfee00000 | below(1 << 20), (uint32_t)number(), &message);
    case 6: return iommu_port_translate(port, device(), pasid(), number(), number(), (int32_t)below(3), &answer);
    case 7: return iommu_port_dma(port, device(), pasid(), number(), bytes, below(sizeof bytes), (int32_t)below(2), &done, &answer);
    default:
      for (int index = 0; index < 8; index++) iovas[index] = number();
      return iommu_port_translate_batch(port, device(), iovas, below(9), (int32_t)below(2), answers);
  }
}

static iommu_status use_memory(void) {
  iommu_memory *memory = (iommu_memory *)pick(MEMORY);
  iommu_machine *machine = (iommu_machine *)pick(MACHINE);
  iommu_translator *translator = (iommu_translator *)pick(TRANSLATOR);
  unsigned char bytes[64];
  size_t done;
  uint64_t iovas[8], answers[8];
  iommu_translation answer;
  answer.size = sizeof answer;
  iommu_device devices[2] = {device(), device()};
  iommu_outcome outcome;
  for (size_t index = 0; index < sizeof bytes; index++) bytes[index] = (unsigned char)next();
  void *context = below(2) ? bytes : NULL;
  switch (below(9)) {
    case 0: return iommu_memory_read(memory, number(), bytes, below(65), &done);
    case 1: return iommu_memory_write(memory, below(2) ? page() : number(), bytes, below(65), &done);
    case 2: return iommu_translator_create(machine, memory, device(), pasid(), NEW(TRANSLATOR));
    case 3:
      answers[0] = iommu_translate(translator, number(), (int32_t)below(3));
      (void)iommu_answer(answers[0], &answer);
      (void)iommu_translation_text(&answer);
      return iommu_translate_request(translator, number(), number(), (int32_t)below(2), &answer);
    case 4:
      for (int index = 0; index < 8; index++) iovas[index] = number();
      return iommu_translate_batch(translator, iovas, below(9), (int32_t)below(2), answers);
    case 5: return iommu_walk(machine, memory, device(), pasid(), number(), (int32_t)below(2), look_step, context, &answer);
    case 6: return iommu_maps(machine, memory, look_mapping, look_text, context);
    case 7: return iommu_find(memory, look_candidate, context);
    default: return iommu_verify(machine, memory, devices, below(3), look_verdict, context, &outcome);
  }
}

static iommu_status give_back(void) {
  /* The handle stays where it was: stale ones are drawn too. */
  switch (below(6)) {
    case MEMORY: return iommu_memory_free((iommu_memory *)pick(MEMORY));
    case MACHINE: return iommu_machine_free((iommu_machine *)pick(MACHINE));
    case TRANSLATOR: return iommu_translator_free((iommu_translator *)pick(TRANSLATOR));
    case TABLES: return iommu_tables_free((iommu_tables *)pick(TABLES));
    case UNIT: return iommu_unit_free((iommu_unit *)pick(UNIT));
    default: return iommu_port_free((iommu_port *)ports[below(PLACES)]);
  }
}

int main(int argc, char **argv) {
  const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
  const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 0) : 100000;
  state = seed * 2 + 1;
  for (int index = 0; index < 8; index++) (void)next();
  unsigned long statuses[9] = {0};
  for (unsigned long call = 0; call < count; call++) {
    iommu_status status;
    const uint64_t before = state;
    switch (below(16)) {
      case 0: status = make_memory(); break;
      case 1: status = make_machine(); break;
      case 2: status = make_tables(); break;
      case 3: status = make_unit(); break;
      case 4: status = below(4) ? IOMMU_OK : give_back(); break;
      case 5:
      case 6:
      case 7: status = change_tables(); break;
      case 8:
      case 9:
      case 10:
      case 11: status = use_unit(); break;
      default: status = use_memory(); break;
    }
    if (status < 0 || status > 8) {
      printf("seed %" PRIu64 ", call %lu (%#" PRIx64 "): status %d\n", seed, call, before, (int)status);
      return 1;
    }
    statuses[status]++;
  }
  printf("seed %" PRIu64 ": %lu calls, %lu did what they were asked for\n", seed, count, statuses[IOMMU_OK]);
  return 0;
}
