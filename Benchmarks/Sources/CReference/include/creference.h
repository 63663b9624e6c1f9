#ifndef CREFERENCE_H
#define CREFERENCE_H

// The yardstick: what plain C, built by the same compiler without knowing the processor, reaches on
// the same tables and the same addresses.

#include <stddef.h>
#include <stdint.h>

typedef struct reference_tables {
  const uint8_t *memory;       // physical 0
  uint64_t byte_count;         // of memory
  uint64_t root;               // of a four-level second-stage table
  uint64_t last_address;       // that the table translates
  uint64_t amdvi_root;         // of a four-level host table of AMD-Vi; its first entry leads to three levels
  uint64_t tce_table;          // big-endian quadwords, one for each page
  uint64_t tce_count;
  uint64_t gatt_table;         // little-endian doublewords
  uint64_t gatt_base;
  uint64_t gatt_byte_count;    // of the aperture
} reference_tables;

#define REFERENCE(name)                                                                      \
  uint64_t reference_##name(const reference_tables *tables, const uint64_t *addresses,       \
                            uint64_t *answers, size_t count)

// One load for each address, prefetched in blocks: no translation is faster on cold tables.
REFERENCE(bare_load);
// One load for each address that waits for the one before: what a single miss takes at least.
REFERENCE(waiting_load);
// Four levels: need bits, page size and bounds; the short way inlined, and as a call.
REFERENCE(walk);
REFERENCE(walk_call);
// The same, and all that a VT-d unit checks: reserved bits, the interrupt range on both sides.
REFERENCE(checked_walk_call);
// Two passes in blocks of 256; the same with a cache of 8,192 regions.
REFERENCE(walk_batch);
REFERENCE(walk_batch_regions);
// The lean walk behind an IOTLB of 256 entries, four in a set, which gives up the one that was used least
// recently; with counters, one call each.
REFERENCE(iotlb_call);
void reference_iotlb_forget(void);
// Calls and a walk in line through AMD-Vi host tables: next levels and sizes are checked, and pages of up to 1 MiB with a
// coded size read, as the tables have them; all else is a call.
REFERENCE(amdvi_walk);
REFERENCE(amdvi_walk_call);
REFERENCE(amdvi_walk3_call);
// Flat tables, one after the other, without SIMD.
REFERENCE(tce);
REFERENCE(tce_call);
REFERENCE(gatt);
REFERENCE(gatt_call);

// Identity mappings: `count` pages from `page` on; second-stage tables are looked for once for each
// 2 MiB, and made from `*next` on, where all is clear.
void reference_store_tces(uint8_t *table, uint64_t page, size_t count);
void reference_store_second_stage(uint8_t *memory, uint64_t root, uint64_t *next, uint64_t page,
                                  size_t count);
// Reads `byte_count` bytes, a multiple of 64, once, from the first to the last.
uint64_t reference_stream(const uint8_t *bytes, size_t byte_count);

#endif
