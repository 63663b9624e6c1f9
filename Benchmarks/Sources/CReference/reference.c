#include "creference.h"

#include <string.h>

#define ADDRESS_BITS 0x000ffffffffff000ull
#define FAULT (1ull << 63)
#define likely(condition) __builtin_expect(!!(condition), 1)
#define inlined static inline __attribute__((always_inline))
#define RESERVED_IN_POINTERS (1ull << 62 | 1ull << 11 | 1ull << 7)
#define RESERVED_IN_PAGES (1ull << 62)

inlined uint64_t load(const uint8_t *memory, uint64_t offset) {
  uint64_t value;
  memcpy(&value, memory + offset, 8);
  return value;
}

inlined void store(uint8_t *memory, uint64_t offset, uint64_t value) {
  memcpy(memory + offset, &value, 8);
}

REFERENCE(bare_load) {
  const uint8_t *table = tables->memory + tables->tce_table;
  for (size_t start = 0; start < count; start += 256) {
    size_t end = count - start < 256 ? count : start + 256;
    for (size_t i = start; i < end; i++) __builtin_prefetch(table + (addresses[i] >> 12) * 8);
    for (size_t i = start; i < end; i++) answers[i] = load(table, (addresses[i] >> 12) * 8);
  }
  return 0;
}

REFERENCE(waiting_load) {
  const uint8_t *table = tables->memory + tables->tce_table;
  uint64_t entry = 0;
  // No entry has bit 63: the compiler does not know, and the processor has to wait.
  for (size_t i = 0; i < count; i++) answers[i] = entry = load(table, (addresses[i] >> 12) * 8 + (entry >> 63));
  return 0;
}

// MARK: VT-d

static __attribute__((noinline, cold)) uint64_t exact_walk(const reference_tables *tables,
                                                           uint64_t address, uint64_t need) {
  uint64_t limit = tables->byte_count - 4096, table = tables->root;
  if (address > tables->last_address) return FAULT | 4;
  if (address >> 20 == 0xfee) return FAULT | 0x29;
  for (int shift = 39;; shift -= 9) {
    if (table > limit) return FAULT | 7;
    uint64_t entry = load(tables->memory, table + ((address >> shift) & 511) * 8);
    if ((entry & need) != need) return FAULT | 6;
    int is_page = shift == 12 || (shift < 39 && entry & 128);
    if (entry & (is_page ? RESERVED_IN_PAGES : RESERVED_IN_POINTERS)) return FAULT | 12;
    if (is_page) {
      uint64_t offset = (1ull << shift) - 1;
      uint64_t physical = (entry & ADDRESS_BITS & ~offset) | (address & offset);
      return physical >> 20 == 0xfee ? FAULT | 14 : physical;
    }
    table = entry & ADDRESS_BITS;
  }
}

#define INDEX(shift) (((address >> (shift)) & 511) * 8)
#define STEP(shift)                                                           \
  entry = load(memory, table + INDEX(shift));                                 \
  table = entry & ADDRESS_BITS;                                               \
  if (!likely((entry & mask) == need && table <= limit)) goto exact;

inlined uint64_t short_walk(const reference_tables *tables, uint64_t address, uint64_t need) {
  const uint8_t *memory = tables->memory;
  uint64_t mask = need | 128, limit = tables->byte_count - 4096, table = tables->root, entry;
  if (!likely(address >> 48 == 0)) goto exact;
  STEP(39) STEP(30) STEP(21)
  entry = load(memory, table + INDEX(12));
  if (!likely((entry & need) == need)) goto exact;
  return (entry & ADDRESS_BITS) | (address & 0xfff);
exact:
  return exact_walk(tables, address, need);
}

inlined uint64_t checked_walk(const reference_tables *tables, uint64_t address, uint64_t need) {
  const uint8_t *memory = tables->memory;
  uint64_t mask = need | RESERVED_IN_POINTERS, limit = tables->byte_count - 4096;
  uint64_t table = tables->root, entry, physical;
  if (!likely(address <= tables->last_address)) goto exact;
  if (!likely(address >> 20 != 0xfee)) goto exact;
  STEP(39) STEP(30) STEP(21)
  entry = load(memory, table + INDEX(12));
  if (!likely((entry & (need | RESERVED_IN_PAGES)) == need)) goto exact;
  physical = (entry & ADDRESS_BITS) | (address & 0xfff);
  if (!likely(physical >> 20 != 0xfee)) goto exact;
  return physical;
exact:
  return exact_walk(tables, address, need);
}

REFERENCE(walk) {
  for (size_t i = 0; i < count; i++) answers[i] = short_walk(tables, addresses[i], 1);
  return 0;
}

static __attribute__((noinline)) uint64_t call_walk(const reference_tables *tables,
                                                    uint64_t address, uint64_t need) {
  return short_walk(tables, address, need);
}

REFERENCE(walk_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_walk(tables, addresses[i], 1);
  return 0;
}

static __attribute__((noinline)) uint64_t call_checked_walk(const reference_tables *tables,
                                                            uint64_t address, uint64_t need) {
  return checked_walk(tables, address, need);
}

REFERENCE(checked_walk_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_checked_walk(tables, addresses[i], 1);
  return 0;
}

#undef STEP
#define STEP(shift)                                                           \
  entry = load(memory, table + INDEX(shift));                                 \
  table = entry & ADDRESS_BITS;                                               \
  if (!likely((entry & 129) == 1 && table <= limit)) goto found;

// The place of the leaf entry; all ones when it is not on the short way.
inlined uint64_t locate(const reference_tables *tables, uint64_t address) {
  const uint8_t *memory = tables->memory;
  uint64_t limit = tables->byte_count - 4096, table = tables->root, entry, place = ~0ull;
  if (!likely(address >> 48 == 0)) goto found;
  STEP(39) STEP(30) STEP(21)
  place = table + INDEX(12);
found:
  return place;
}

inlined void read_leaves(const reference_tables *tables, const uint64_t *addresses,
                         uint64_t *answers, size_t start, size_t end) {
  for (size_t i = start; i < end; i++) {
    if (!likely(answers[i] != ~0ull)) {
      answers[i] = exact_walk(tables, addresses[i], 1);
      continue;
    }
    uint64_t entry = load(tables->memory, answers[i]);
    answers[i] = likely(entry & 1) ? (entry & ADDRESS_BITS) | (addresses[i] & 0xfff)
                                   : exact_walk(tables, addresses[i], 1);
  }
}

REFERENCE(walk_batch) {
  for (size_t start = 0; start < count; start += 256) {
    size_t end = count - start < 256 ? count : start + 256;
    for (size_t i = start; i < end; i++) {
      uint64_t place = locate(tables, addresses[i]);
      answers[i] = place;
      __builtin_prefetch(tables->memory + (place == ~0ull ? 0 : place));
    }
    read_leaves(tables, addresses, answers, start, end);
  }
  return 0;
}

static struct region {
  uint64_t number, table;
} regions[8192];

REFERENCE(walk_batch_regions) {
  for (size_t start = 0; start < count; start += 256) {
    size_t end = count - start < 256 ? count : start + 256;
    for (size_t i = start; i < end; i++) {
      uint64_t address = addresses[i], number = (address >> 21) + 1, place;
      struct region *region = &regions[number & 8191];
      if (likely(region->number == number)) {
        place = region->table + INDEX(12);
      } else {
        place = locate(tables, address);
        if (place != ~0ull) *region = (struct region){number, place - INDEX(12)};
      }
      answers[i] = place;
      __builtin_prefetch(tables->memory + (place == ~0ull ? 0 : place));
    }
    read_leaves(tables, addresses, answers, start, end);
  }
  return 0;
}

// MARK: An IOTLB

// 64 sets of four, the last one used in front; a set fills a cache line of tags and one of pages.
static struct set {
  uint64_t tags[4], pages[4];
} iotlb[64] __attribute__((aligned(64)));
static uint64_t iotlb_hits, iotlb_misses;

void reference_iotlb_forget(void) { memset(iotlb, 0, sizeof iotlb); }

inlined void move_to_front(struct set *set, int way, uint64_t tag, uint64_t page) {
  for (; way > 0; way--) {
    set->tags[way] = set->tags[way - 1];
    set->pages[way] = set->pages[way - 1];
  }
  set->tags[0] = tag;
  set->pages[0] = page;
}

static __attribute__((noinline)) uint64_t call_iotlb(const reference_tables *tables,
                                                     uint64_t address, uint64_t need) {
  uint64_t tag = (address >> 12) + 1, physical;
  struct set *set = &iotlb[tag & 63];
  for (int way = 0; way < 4; way++) {
    if (set->tags[way] != tag) continue;
    uint64_t page = set->pages[way];
    move_to_front(set, way, tag, page);
    iotlb_hits++;
    return likely((page & need) == need) ? (page & ADDRESS_BITS) | (address & 0xfff)
                                         : exact_walk(tables, address, need);
  }
  iotlb_misses++;
  physical = short_walk(tables, address, need);
  if (likely(physical >> 63 == 0)) move_to_front(set, 3, tag, (physical & ADDRESS_BITS) | 3);
  return physical;
}

REFERENCE(iotlb_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_iotlb(tables, addresses[i], 1);
  return 0;
}

// MARK: AMD-Vi

#define AMDVI_PRESENT 1ull
#define AMDVI_READ (1ull << 61)
#define AMDVI_NEXT 0xe00ull
#define AMDVI_RESERVED_IN_POINTERS 0x1ff0000000000000ull
#define AMDVI_RESERVED_IN_PAGES 0x07f0000000000000ull

static __attribute__((noinline, cold)) uint64_t exact_amdvi_walk(const reference_tables *tables,
                                                                 uint64_t address, uint64_t need,
                                                                 int level, uint64_t table) {
  uint64_t limit = tables->byte_count - 4096;
  if (address >> (12 + 9 * level)) return FAULT | 1;
  if (address >> 20 == 0xfee) return FAULT | 2;
  for (;;) {
    int shift = 3 + 9 * level;
    if (table > limit) return FAULT | 3;
    uint64_t entry = load(tables->memory, table + ((address >> shift) & 511) * 8);
    int next = (entry >> 9) & 7;
    if (!(entry & AMDVI_PRESENT)) return FAULT | 4;
    if (entry & (next == 0 || next == 7 ? AMDVI_RESERVED_IN_PAGES : AMDVI_RESERVED_IN_POINTERS))
      return FAULT | 5;
    if ((entry & need) != need) return FAULT | 6;
    if (next == 0 || next == 7) {
      uint64_t ones = entry | 0xfff, offset = next ? ones ^ (ones + 1) : (1ull << shift) - 1;
      if (next && (offset >> shift == 0 || offset >> (shift + 9) != 0)) return FAULT | 7;
      return (entry & ADDRESS_BITS & ~offset) | (address & offset);
    }
    if (next >= level) return FAULT | 7;
    uint64_t skipped = (1ull << shift) - (1ull << (12 + 9 * next));
    if (next + 1 < level && address & skipped) return FAULT | 7;
    table = entry & ADDRESS_BITS;
    level = next;
  }
}

#define AMDVI_STEP(shift, next)                                               \
  entry = load(memory, table + INDEX(shift));                                 \
  table = entry & ADDRESS_BITS;                                               \
  if (!likely((entry & mask) == (need | (next) << 9) && table <= limit)) goto exact;

inlined uint64_t amdvi_walk(const reference_tables *tables, uint64_t address, uint64_t root,
                            int levels) {
  const uint8_t *memory = tables->memory;
  uint64_t need = AMDVI_PRESENT | AMDVI_READ, mask = need | AMDVI_NEXT | AMDVI_RESERVED_IN_POINTERS;
  uint64_t limit = tables->byte_count - 4096, table = root, entry, ones, offset;
  if (!likely(address >> (12 + 9 * levels) == 0)) goto exact;
  if (!likely(address >> 20 != 0xfee)) goto exact;
  if (levels == 4) { AMDVI_STEP(39, 3ull) }
  AMDVI_STEP(30, 2ull) AMDVI_STEP(21, 1ull)
  entry = load(memory, table + INDEX(12));
  if (!likely((entry & (need | AMDVI_RESERVED_IN_PAGES)) == need)) goto exact;
  if ((entry & AMDVI_NEXT) == 0) return (entry & ADDRESS_BITS) | (address & 0xfff);
  ones = entry | 0xfff;
  offset = ones ^ (ones + 1);
  if (!likely((entry & AMDVI_NEXT) == AMDVI_NEXT && offset <= 0xfffff)) goto exact;
  return (entry & ADDRESS_BITS & ~offset) | (address & offset);
exact:
  return exact_amdvi_walk(tables, address, need, levels, root);
}

inlined uint64_t amdvi_root3(const reference_tables *tables) {
  return load(tables->memory, tables->amdvi_root) & ADDRESS_BITS;
}

REFERENCE(amdvi_walk) {
  for (size_t i = 0; i < count; i++)
    answers[i] = amdvi_walk(tables, addresses[i], tables->amdvi_root, 4);
  return 0;
}

static __attribute__((noinline)) uint64_t call_amdvi_walk(const reference_tables *tables,
                                                          uint64_t address) {
  return amdvi_walk(tables, address, tables->amdvi_root, 4);
}

REFERENCE(amdvi_walk_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_amdvi_walk(tables, addresses[i]);
  return 0;
}

static __attribute__((noinline)) uint64_t call_amdvi_walk3(const reference_tables *tables,
                                                           uint64_t address, uint64_t root) {
  return amdvi_walk(tables, address, root, 3);
}

REFERENCE(amdvi_walk3_call) {
  uint64_t root = amdvi_root3(tables);
  for (size_t i = 0; i < count; i++) answers[i] = call_amdvi_walk3(tables, addresses[i], root);
  return 0;
}

// MARK: Flat tables

inlined uint64_t one_tce(const reference_tables *tables, uint64_t address, uint64_t need) {
  uint64_t index = address >> 12;
  if (!likely(index < tables->tce_count)) return FAULT | 1;
  uint64_t entry = __builtin_bswap64(load(tables->memory + tables->tce_table, index * 8));
  if (!likely((entry & need) == need)) return FAULT | 2;
  return (entry & 0x0000fffffffff000ull) | (address & 0xfff);
}

inlined uint64_t one_gatt_entry(const reference_tables *tables, uint64_t address) {
  uint64_t offset = address - tables->gatt_base;
  if (!likely(offset < tables->gatt_byte_count)) return address;
  uint32_t entry;
  memcpy(&entry, tables->memory + tables->gatt_table + (offset >> 12) * 4, 4);
  if (!likely(entry & 1)) return FAULT | 2;
  return (entry & 0xfffff000ull) | (entry & 0xff0ull) << 28 | (address & 0xfff);
}

#define SCALAR _Pragma("clang loop vectorize(disable) interleave(disable)")

REFERENCE(tce) {
  SCALAR for (size_t i = 0; i < count; i++) answers[i] = one_tce(tables, addresses[i], 1);
  return 0;
}

static __attribute__((noinline)) uint64_t call_tce(const reference_tables *tables,
                                                   uint64_t address, uint64_t need) {
  return one_tce(tables, address, need);
}

REFERENCE(tce_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_tce(tables, addresses[i], 1);
  return 0;
}

REFERENCE(gatt) {
  SCALAR for (size_t i = 0; i < count; i++) answers[i] = one_gatt_entry(tables, addresses[i]);
  return 0;
}

static __attribute__((noinline)) uint64_t call_gatt(const reference_tables *tables,
                                                    uint64_t address) {
  return one_gatt_entry(tables, address);
}

REFERENCE(gatt_call) {
  for (size_t i = 0; i < count; i++) answers[i] = call_gatt(tables, addresses[i]);
  return 0;
}

// MARK: Stores and streams

void reference_store_tces(uint8_t *table, uint64_t page, size_t count) {
  // The loop that clang makes of it by itself, with SIMD, takes three times as long.
  SCALAR for (size_t i = 0; i < count; i++) {
    uint64_t number = page + i;
    store(table, number * 8, __builtin_bswap64(number << 12 | 3));
  }
}

void reference_store_second_stage(uint8_t *memory, uint64_t root, uint64_t *next, uint64_t page,
                                  size_t count) {
  for (uint64_t end = page + count; page < end;) {
    uint64_t address = page << 12, table = root;
    for (int shift = 39; shift > 12; shift -= 9) {
      uint64_t place = table + INDEX(shift), entry = load(memory, place);
      if (entry == 0) {
        entry = *next | 3;
        *next += 4096;
        store(memory, place, entry);
      }
      table = entry & ADDRESS_BITS;
    }
    uint64_t stop = (page | 511) + 1;
    if (stop > end) stop = end;
    for (; page < stop; page++) store(memory, table + (page & 511) * 8, page << 12 | 3);
  }
}

uint64_t reference_stream(const uint8_t *bytes, size_t byte_count) {
  uint64_t sums[8] = {0};
  for (size_t i = 0; i < byte_count; i += 64)
    for (int lane = 0; lane < 8; lane++) sums[lane] += load(bytes, i + lane * 8);
  uint64_t sum = 0;
  for (int lane = 0; lane < 8; lane++) sum += sums[lane];
  return sum;
}
