/* IOMMUs to the bit: the tables and units of Intel VT-d, AMD-Vi, AMD GART and IBM Calgary, for C.
 *
 * C99 and C++17. Link with libiommu, which brings all that it needs with it.
 *
 * Objects are handles: they are made by functions that end in _create, _open, _adopt and the like, and given
 * back by the _free of their kind. A handle is a number in the shape of a pointer. It is looked up and never
 * followed, so that one that was freed, is of another kind or was never a handle is refused with
 * IOMMU_ERROR_HANDLE. An object keeps what it was made over: a memory may be freed while translators and units
 * still use it, and goes away with the last of them.
 *
 * Functions return a status. Where it is not IOMMU_OK, nothing was stored in what the caller points to, and
 * iommu_last_error() says what was found and what would be right. Pointers to results must not be null, but
 * where it says so.
 *
 * Structures that a caller fills begin with their size, `sizeof` of the structure: a library of a later
 * version knows by it which members are there. Members that are zero ask for what is usual; those called reserved
 * must be. Structures that
 * the library fills begin with it as well; the caller sets it before the call, but not in callbacks.
 *
 * Threads: functions may be called by any thread, and by several at once with different objects. Memories,
 * machines and translators may be used by any number of threads at once; so may VT-d and AMD-Vi units. Tables,
 * ports, and Calgary and GART units serve one thread at a time. An object is freed when no other thread uses
 * it. The text of iommu_last_error() is the calling thread's own. Callbacks run on the thread that called, and
 * may call the library, but may not free what the call that they are in was given.
 *
 * Addresses and sizes are bytes; ranges are half-open.
 */
#ifndef IOMMU_H
#define IOMMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What this header describes. A library of the same ABI version has all of it. */
#define IOMMU_ABI_VERSION 1

/* Status and version ------------------------------------------------------------------------------------- */

typedef int32_t iommu_status;
enum {
  IOMMU_OK = 0,
  /* An argument is null, out of range, or a structure of a size that is none. */
  IOMMU_ERROR_ARGUMENT = 1,
  /* A handle that is none, was freed, or is of another kind. */
  IOMMU_ERROR_HANDLE = 2,
  /* Memory is not granted, empty, unaligned or overlapping, takes no stores, or does not hold what it said. */
  IOMMU_ERROR_MEMORY = 3,
  /* A file cannot be read, or is not what it should be. */
  IOMMU_ERROR_INPUT = 4,
  /* The tables refuse: unaligned, mapped already, not mapped, no room, no such domain. */
  IOMMU_ERROR_TABLES = 5,
  /* This hardware, mode or kind of memory has no such thing. */
  IOMMU_ERROR_UNSUPPORTED = 6,
  /* What was looked for is not there, or not for certain. */
  IOMMU_ERROR_NOT_FOUND = 7,
  /* A callback has asked to stop. */
  IOMMU_STOPPED = 8
};

/* The ABI version of the library, to compare with IOMMU_ABI_VERSION. */
uint32_t iommu_abi_version(void);
/* The version of the library, as "0.2.0". Stays valid. */
const char *iommu_version(void);
/* Why the last call of this thread that failed has failed: one line or several, "" when none has. Valid until
 * the thread's next call that fails. */
const char *iommu_last_error(void);
/* A status in a few words. Stays valid. */
const char *iommu_status_text(iommu_status status);

/* Devices ------------------------------------------------------------------------------------------------ */

/* A PCI function: bits 47:16 its segment, 15:8 bus, 7:3 device, 2:0 function. The lower 16 bits are the
 * requester-id that its requests carry. */
typedef uint64_t iommu_device;

/* The function SEGMENT:BUS:DEVICE.FUNCTION. */
static inline iommu_device iommu_pci(uint32_t segment, uint8_t bus, uint8_t device, uint8_t function) {
  return (iommu_device)segment << 16 | (iommu_device)bus << 8 | (iommu_device)(device & 31u) << 3 |
         (iommu_device)(function & 7u);
}

/* Reads "00:1f.2", "0001:00:1f.2" and the other forms in which logs name a function. */
iommu_status iommu_parse_device(const char *text, iommu_device *device);

/* For requests that carry no PASID. All others carry 20 bits. */
#define IOMMU_NO_PASID UINT32_MAX

typedef int32_t iommu_access;
enum {
  /* The device reads memory. */
  IOMMU_READ = 0,
  /* The device writes memory. */
  IOMMU_WRITE = 1
};

/* Memory ------------------------------------------------------------------------------------------------- */

/* The physical memory of a machine: where tables lie. */
typedef struct iommu_memory iommu_memory;

typedef struct iommu_range {
  uint64_t address;
  uint64_t size;
} iommu_range;

/* A piece of memory that is the caller's. */
typedef struct iommu_ram {
  /* Its first physical address, a multiple of 4 KiB. */
  uint64_t address;
  /* Where it lies in this process, at a multiple of 4 KiB. */
  void *bytes;
  /* Whole pages of 4 KiB. */
  uint64_t size;
} iommu_ram;

/* Memory of the library's own: `size` bytes of RAM from address 0 on, zeros, which cost what is touched. */
iommu_status iommu_memory_create(uint64_t size, iommu_memory **memory);

/* Memory that lies in this process, such as the RAM of a virtual machine; nothing is copied. It stays mapped
 * for as long as the memory or anything made over it is there; whoever else uses it at the same time reads and
 * writes whole aligned words.
 *
 * release: called with `context` when nothing uses the memory any more; may be null. When the call fails it
 * is not called. */
iommu_status iommu_memory_adopt(const iommu_ram *ram, size_t count, void (*release)(void *context),
                                void *context, iommu_memory **memory);

/* Memory that is asked for by calls. */
typedef struct iommu_memory_calls {
  size_t size;
  /* Given to each call. */
  void *context;
  /* What answers: ascending, not touching each other. Copied. */
  const iommu_range *ranges;
  size_t range_count;
  /* Not null. Copies up to `size` bytes from `address` on, and returns how many: fewer, or 0, where the rest
   * is not there. Aligned words of 4 and 8 bytes are read whole. May be called by several threads at once if
   * the caller does so. */
  size_t (*read)(void *context, uint64_t address, void *bytes, size_t size);
  /* Stores, likewise. Null: nothing can be written. */
  size_t (*write)(void *context, uint64_t address, const void *bytes, size_t size);
  /* Stores `desired` in the little-endian quadword at `address` when it holds `*expected`, and returns 1;
   * otherwise leaves in `*expected` what it holds, and returns 0. Null: a read and a write take its place,
   * which nobody else may come between. */
  int32_t (*compare_exchange)(void *context, uint64_t address, uint64_t *expected, uint64_t desired);
  /* Called when nothing uses the memory any more; may be null. When the call that makes the memory fails it
   * is not called. */
  void (*release)(void *context);
  /* Not 0: the memory is a dump. What does not answer is unknown then, instead of not there. */
  int32_t is_dump;
  int32_t reserved;
} iommu_memory_calls;
iommu_status iommu_memory_create_with_calls(const iommu_memory_calls *calls, iommu_memory **memory);

/* A memory dump: ELF core, kdump-compressed, flattened, LiME, raw; `count` is 1 but for the parts of a split
 * one. Nothing can be written. Files that become shorter read as zeros from then on, which
 * iommu_memory_check() tells. */
iommu_status iommu_memory_open(const char *const *paths, size_t count, iommu_memory **memory);

/* IOMMU_ERROR_INPUT when something of a dump could not be read since it was opened. */
iommu_status iommu_memory_check(iommu_memory *memory);

/* Copies up to `size` bytes from `address` on; `*done` is how many are there in one run, 0 for none. */
iommu_status iommu_memory_read(iommu_memory *memory, uint64_t address, void *bytes, size_t size, size_t *done);
/* Stores up to `size` bytes from `address` on; `*done` is how many were stored. */
iommu_status iommu_memory_write(iommu_memory *memory, uint64_t address, const void *bytes, size_t size,
                                size_t *done);
/* What answers: stores up to `capacity` ranges, ascending, and in `*count` how many there are. `ranges` may be
 * null when `capacity` is 0. */
iommu_status iommu_memory_ranges(iommu_memory *memory, iommu_range *ranges, size_t capacity, size_t *count);
/* Null is no memory, and nothing happens. So with all functions that end in _free. */
iommu_status iommu_memory_free(iommu_memory *memory);

/* Machines ----------------------------------------------------------------------------------------------- */

/* Which units there are and what their registers hold, as values. */
typedef struct iommu_machine iommu_machine;

/* A machine without units, whose devices see physical addresses. */
iommu_status iommu_machine_create(iommu_machine **machine);
/* What a machine file says. */
iommu_status iommu_machine_open(const char *path, iommu_machine **machine);
/* What a dump tells by itself: what its kernel says of its units, or else the tables that are certainly some.
 * IOMMU_ERROR_NOT_FOUND when there is none. */
iommu_status iommu_machine_find(iommu_memory *memory, iommu_machine **machine);
/* The number of units. */
iommu_status iommu_machine_unit_count(iommu_machine *machine, size_t *count);
iommu_status iommu_machine_free(iommu_machine *machine);

/* Registers of a VT-d unit (Intel VT-d 11.4). */
typedef struct iommu_vtd_registers {
  size_t size;
  /* Where the registers lie: the unit's name. */
  uint64_t base;
  /* RTADDR_REG. */
  uint64_t root_table_address;
  /* CAP_REG and ECAP_REG; both 0: everything that is legal. */
  uint64_t capability;
  uint64_t extended_capability;
  /* IRTA_REG. */
  uint64_t interrupt_table_address;
  /* GSTS_REG; 0: DMA remapping is on and nothing else. */
  uint32_t global_status;
  /* Bits of a physical address, 32 to 52; 0 for 52. */
  uint32_t host_address_width;
  /* The PCI segment of its devices. */
  uint32_t segment;
  uint32_t reserved;
} iommu_vtd_registers;
iommu_status iommu_machine_add_vtd(iommu_machine *machine, const iommu_vtd_registers *registers);

/* Registers of an AMD-Vi unit (AMD IOMMU 3.4). */
typedef struct iommu_amdvi_registers {
  size_t size;
  uint64_t base;
  /* Device Table Base Address Register. */
  uint64_t device_table_base;
  /* IOMMU Control Register; 0: IommuEn and GTEn. */
  uint64_t control;
  /* Extended Feature Register; 0: it is not known. */
  uint64_t extended_features;
  uint32_t segment;
  uint32_t reserved;
} iommu_amdvi_registers;
iommu_status iommu_machine_add_amdvi(iommu_machine *machine, const iommu_amdvi_registers *registers);

/* A PCI host bridge of a Calgary or CalIOC2 chip. Values are numbered as documented, the most significant bit
 * first in memory. */
typedef struct iommu_calgary_bridge {
  uint8_t first_bus;
  uint8_t last_bus;
  uint8_t reserved[6];
  /* TAR. */
  uint64_t table_address;
  /* PHB configuration register; 0: translation is on. */
  uint32_t configuration;
  uint32_t reserved2;
} iommu_calgary_bridge;

typedef struct iommu_calgary_registers {
  size_t size;
  uint64_t base;
  /* 1 to 4 bridges. Copied. */
  const iommu_calgary_bridge *bridges;
  size_t bridge_count;
  /* Not 0: CalIOC2. */
  int32_t is_calioc2;
  int32_t reserved;
} iommu_calgary_registers;
iommu_status iommu_machine_add_calgary(iommu_machine *machine, const iommu_calgary_registers *registers);

/* Registers of a northbridge with a GART (AMD BKDG, function 3: 0x90, 0x94, 0x98). */
typedef struct iommu_gart_registers {
  size_t size;
  /* Function 3 of the northbridge; 0 for 00:18.3. */
  uint16_t requester;
  uint16_t reserved;
  uint32_t aperture_control;
  uint32_t aperture_base;
  uint32_t table_base;
} iommu_gart_registers;
iommu_status iommu_machine_add_gart(iommu_machine *machine, const iommu_gart_registers *registers);

/* Says where the crash kernel lies; iommu_verify() wants to know. Takes the place of what was known. */
iommu_status iommu_machine_set_crash_kernel(iommu_machine *machine, const iommu_range *ranges, size_t count);

/* Translating -------------------------------------------------------------------------------------------- */

typedef int32_t iommu_answer_kind;
enum {
  /* It goes to memory. */
  IOMMU_MEMORY = 0,
  /* The hardware blocks it. */
  IOMMU_FAULT = 1,
  /* It is an interrupt message. */
  IOMMU_INTERRUPT = 2
};

typedef int32_t iommu_hardware;
enum { IOMMU_PLATFORM = 0, IOMMU_VTD = 1, IOMMU_GART = 2, IOMMU_CALGARY = 3, IOMMU_AMDVI = 4 };

/* What becomes of a request. */
typedef struct iommu_translation {
  size_t size;
  iommu_answer_kind kind;
  /* Whose number a fault's is. */
  iommu_hardware hardware;
  /* Memory: where the first byte goes, and how many of those asked for follow it in one run: of a translated
   * address at most to the end of its page. */
  uint64_t physical;
  uint64_t byte_count;
  /* Fault: the manual's number; -1 where the hardware has none. */
  int32_t fault;
  /* Fault: hardware keeps something that tells software of it. */
  int32_t is_recorded;
  /* Fault: no memory answered where a table should be, or that is one of the causes of this number (of VT-d's 3h
   * others are a width or a type that the unit does not have), or nothing is known of the unit. Of a dump that is
   * no answer. iommu_walk() sees which it was, and sets this only where a dump lacks the entry that decides, or
   * nothing is known of the unit. */
  int32_t is_unanswered;
  /* The library's own number of the fault, for iommu_translation_text(). */
  int32_t detail;
} iommu_translation;

/* The fault of an answer in words, as "fault 0x5: write without write permission, or no mapping"; "" for what
 * is no fault. Stays valid. */
const char *iommu_translation_text(const iommu_translation *translation);

/* The tables of one device in a memory: made once, used for millions of requests. It goes stale when the
 * registers or the device's root, context or device table entry change; page tables are read anew by each
 * call. */
typedef struct iommu_translator iommu_translator;

/* pasid: what requests carry, or IOMMU_NO_PASID. IOMMU_ERROR_NOT_FOUND when no unit serves the device's
 * segment. */
iommu_status iommu_translator_create(iommu_machine *machine, iommu_memory *memory, iommu_device device,
                                     uint32_t pasid, iommu_translator **translator);
iommu_status iommu_translator_free(iommu_translator *translator);

/* What becomes of the first byte of a request, in one word: bits 51:0 are the physical address and all others
 * clear, or bit 63 is set and the rest says why there is none, which iommu_answer() takes apart. A bad handle
 * or access is answered with IOMMU_NO_ANSWER. No allocation, no lock. */
uint64_t iommu_translate(iommu_translator *translator, uint64_t iova, iommu_access access);

/* The answer to what was no request. */
#define IOMMU_NO_ANSWER UINT64_MAX
#define IOMMU_IS_MEMORY(answer) (((answer) >> 52) == 0)

/* The same for `count` requests; answers[i] is that of iovas[i]. The two do not overlap. */
iommu_status iommu_translate_batch(iommu_translator *translator, const uint64_t *iovas, size_t count,
                                   iommu_access access, uint64_t *answers);

/* What becomes of a request of `byte_count` bytes, at least 1, up to the end of its page. */
iommu_status iommu_translate_request(iommu_translator *translator, uint64_t iova, uint64_t byte_count,
                                     iommu_access access, iommu_translation *translation);

/* An answer in one word, taken apart; `byte_count` is 1 then. IOMMU_ERROR_ARGUMENT for a word that is no
 * answer, or that says that the address is 2^52 or more and has no room. */
iommu_status iommu_answer(uint64_t answer, iommu_translation *translation);

/* Looking ------------------------------------------------------------------------------------------------ */

/* Callbacks return 0 to go on; all else stops, and the function that calls returns IOMMU_STOPPED. Texts and
 * structures are valid until the callback returns. */

/* An entry that a walk read. */
typedef struct iommu_walk_step {
  size_t size;
  /* The entry's name in the manual, as "SS-PTE". */
  const char *name;
  /* Its fields, as "ADDR=0x7663000 W=0x1 R=0x1", and what they say in words. */
  const char *fields;
  const char *meaning;
  /* Its section in the manual. */
  const char *specification;
  /* Where it lies. */
  uint64_t address;
  /* Its number in its table. */
  uint64_t index;
  /* The level of page tables, from 1; 0 for tables above them. */
  int32_t level;
  /* Words of 8 bytes in use below, lowest first; one of 4 bytes counts as one. */
  uint32_t word_count;
  uint64_t words[8];
} iommu_walk_step;

/* Follows one request, entry by entry. `step` may be null; so may `translation`. */
iommu_status iommu_walk(iommu_machine *machine, iommu_memory *memory, iommu_device device, uint32_t pasid,
                        uint64_t iova, iommu_access access,
                        int32_t (*step)(const iommu_walk_step *step, void *context), void *context,
                        iommu_translation *translation);

/* Pages in a row that are mapped alike. */
typedef struct iommu_mapping {
  size_t size;
  /* Whose: "00:03.0", "00:03.0/5" with a PASID, "bus:02", "gart". */
  const char *owner;
  uint64_t iova;
  uint64_t physical;
  uint64_t byte_count;
  /* Not 0: reads pass; writes pass. */
  int32_t can_read;
  int32_t can_write;
  /* The first owner with the very same table: its mappings are the owner's too, and are not listed again. Null
   * otherwise; `byte_count` is 0 where it is not. */
  const char *same_as;
  /* Not 0: the device has no table and reaches all of memory by its own addresses; `byte_count` is 0. */
  int32_t is_pass_through;
  int32_t reserved;
} iommu_mapping;

/* Lists every mapping of every table, ascending by IOVA within each. What of the tables is not known goes to
 * `unknown`, a line each; it may be null. */
iommu_status iommu_maps(iommu_machine *machine, iommu_memory *memory,
                        int32_t (*mapping)(const iommu_mapping *mapping, void *context),
                        int32_t (*unknown)(const char *text, void *context), void *context);

/* Something in memory that looks like a table. */
typedef struct iommu_candidate {
  size_t size;
  /* "VT-d root table". */
  const char *kind;
  /* What speaks for it and what against, a line each. */
  const char *reasons;
  uint64_t address;
  uint64_t byte_count;
  /* 0 to 100. */
  int32_t score;
  /* Not 0: nothing else is known to look like that. */
  int32_t is_certain;
} iommu_candidate;

/* Looks for tables by their structure alone. */
iommu_status iommu_find(iommu_memory *memory,
                        int32_t (*candidate)(const iommu_candidate *candidate, void *context), void *context);

typedef int32_t iommu_outcome;
enum {
  IOMMU_HOLDS = 0,
  IOMMU_BROKEN = 1,
  IOMMU_UNKNOWN = 2,
  /* Nothing on this machine can break it. */
  IOMMU_NOT_APPLICABLE = 3
};

/* What one of the thirteen checks of the Kdump IO Rule came to. */
typedef struct iommu_verdict {
  size_t size;
  /* 1 to 13. */
  int32_t rule;
  iommu_outcome outcome;
  /* What must hold. */
  const char *statement;
  /* What was found, a line each. */
  const char *findings;
} iommu_verdict;

/* Judges a machine by the Rule: `conclusion` is IOMMU_HOLDS, IOMMU_BROKEN or IOMMU_UNKNOWN. Where the crash
 * kernel is, the machine says, or else a dump's VMCOREINFO and kernel.
 *
 * devices: what the kdump kernel needs; with a count of 0 all devices that have a table. `verdict` may be
 * null. */
iommu_status iommu_verify(iommu_machine *machine, iommu_memory *memory, const iommu_device *devices,
                          size_t count, int32_t (*verdict)(const iommu_verdict *verdict, void *context),
                          void *context, iommu_outcome *conclusion);

/* Building tables ---------------------------------------------------------------------------------------- */

/* The tables of one unit, in a memory that can be written. Pages that tables lie in are cleared: what was there is
 * lost, and builders that share a memory each need a range of their own. Nothing tells one of what another does. */
typedef struct iommu_tables iommu_tables;

typedef struct iommu_vtd_options {
  size_t size;
  /* CAP_REG and ECAP_REG; both 0: everything that is legal. */
  uint64_t capability;
  uint64_t extended_capability;
  /* Pages for tables come from here, its end first, and are cleared; size 0: from all of the memory. */
  iommu_range table_range;
  /* Not 0: scalable mode. */
  int32_t is_scalable;
  /* Levels of second-stage tables, 3 to 5; 0 for 4. */
  int32_t levels;
  /* Room for PASIDs, as a power of two, 13 to 20; 0 for 15. */
  int32_t pasid_bits;
  /* Bits of a physical address, 32 to 52; 0 for 52. */
  uint32_t host_address_width;
  uint32_t segment;
  uint32_t reserved;
} iommu_vtd_options;

typedef struct iommu_amdvi_options {
  size_t size;
  /* Extended Feature Register; 0: everything that is legal. */
  uint64_t extended_features;
  iommu_range table_range;
  /* Room for buses 0 to this one; 0 for 255. */
  uint32_t last_bus;
  /* Room for PASIDs, as a power of two, 1 to 20; 0 for 9. */
  int32_t pasid_bits;
  uint32_t segment;
  uint32_t reserved;
} iommu_amdvi_options;

typedef struct iommu_calgary_options {
  size_t size;
  iommu_range table_range;
  /* Bytes of each TCE table, 64 KiB to 8 MiB; 0 for 1 MiB, which is for 512 MiB of addresses. */
  uint64_t table_size;
  /* Of each bridge its buses; the other members do not count. Null: one bridge above all buses. */
  const iommu_calgary_bridge *bridges;
  size_t bridge_count;
  int32_t is_calioc2;
  int32_t reserved;
} iommu_calgary_options;

typedef struct iommu_gart_options {
  size_t size;
  iommu_range table_range;
  /* The aperture's first address, a multiple of its size; 0 for 2 GiB. */
  uint64_t base;
  /* 32 MiB << order are translated, 0 to 6. */
  int32_t order;
  int32_t reserved;
} iommu_gart_options;

/* Options may be null: all of them are what is usual then. */
iommu_status iommu_tables_create_vtd(iommu_memory *memory, const iommu_vtd_options *options,
                                     iommu_tables **tables);
iommu_status iommu_tables_create_amdvi(iommu_memory *memory, const iommu_amdvi_options *options,
                                       iommu_tables **tables);
iommu_status iommu_tables_create_calgary(iommu_memory *memory, const iommu_calgary_options *options,
                                         iommu_tables **tables);
iommu_status iommu_tables_create_gart(iommu_memory *memory, const iommu_gart_options *options,
                                      iommu_tables **tables);
iommu_status iommu_tables_free(iommu_tables *tables);

enum {
  /* What a mapping allows; together IOMMU_READ_WRITE. A GART's always allow both. */
  IOMMU_MAP_READ = 1,
  IOMMU_MAP_WRITE = 2,
  IOMMU_READ_WRITE = 3,
  /* The largest pages that the unit has and both addresses allow, instead of 4 KiB. */
  IOMMU_LARGEST_PAGES = 0x100,
  /* Over whatever is mapped there, instead of where nothing is. */
  IOMMU_REMAP = 0x200
};

/* Maps `size` bytes of memory from `physical` on for a device at `iova`; multiples of 4 KiB. All or nothing,
 * but for IOMMU_REMAP. A device of VT-d or AMD-Vi that is bound to no domain gets one of its own; what a
 * Calgary maps is for all devices below the bridge, what a GART maps for all of them. `pasid` is
 * IOMMU_NO_PASID for Calgary and GART. */
iommu_status iommu_tables_map(iommu_tables *tables, iommu_device device, uint32_t pasid, uint64_t iova,
                              uint64_t physical, uint64_t size, uint32_t flags);
/* The same at the addresses that the memory has: what the Kdump IO Rule wants of the crash kernel's. */
iommu_status iommu_tables_map_identity(iommu_tables *tables, iommu_device device, uint32_t pasid,
                                       uint64_t physical, uint64_t size, uint32_t flags);
/* Takes mappings away, and gives tables back in which nothing is left; larger pages of which only a part goes
 * are split. */
iommu_status iommu_tables_unmap(iommu_tables *tables, iommu_device device, uint32_t pasid, uint64_t iova,
                                uint64_t size);

/* Domains: address spaces that devices share. VT-d and AMD-Vi alone. */
typedef int32_t iommu_domain_kind;
enum {
  /* VT-d second-stage tables of 3 to 5 levels; AMD-Vi host tables of 1 to 6. */
  IOMMU_DOMAIN_HOST = 0,
  /* VT-d first-stage tables, AMD-Vi guest tables: 4 or 5 levels. */
  IOMMU_DOMAIN_PROCESS = 1,
  /* The same in the addresses of a guest, whose memory the domain `host` maps. */
  IOMMU_DOMAIN_NESTED = 2,
  /* The device's addresses are physical ones. */
  IOMMU_DOMAIN_PASS_THROUGH = 3
};
/* levels: 0 for 4; not looked at for pass-through. host: of a nested domain alone. */
iommu_status iommu_tables_create_domain(iommu_tables *tables, iommu_domain_kind kind, int32_t levels,
                                        uint16_t host, uint16_t *domain);
/* Does away with a domain that no device is bound to. */
iommu_status iommu_tables_remove_domain(iommu_tables *tables, uint16_t domain);
/* Maps and unmaps for all devices of a domain; otherwise as for a device. */
iommu_status iommu_tables_map_domain(iommu_tables *tables, uint16_t domain, uint64_t iova, uint64_t physical,
                                     uint64_t size, uint32_t flags);
iommu_status iommu_tables_unmap_domain(iommu_tables *tables, uint16_t domain, uint64_t iova, uint64_t size);
iommu_status iommu_tables_bind(iommu_tables *tables, iommu_device device, uint32_t pasid, uint16_t domain);
/* Blocks the device from now on; its domain stays. */
iommu_status iommu_tables_unbind(iommu_tables *tables, iommu_device device, uint32_t pasid);

/* What a live unit wants in its register to use the tables: RTADDR_REG of VT-d, the Device Table Base Address
 * Register of AMD-Vi; of Calgary TAR of the first bridge, of GART function 3's register 0x98. */
iommu_status iommu_tables_root(iommu_tables *tables, uint64_t *value);
/* The unit with its registers as they stand when it translates through the tables. */
iommu_status iommu_tables_machine(iommu_tables *tables, iommu_machine **machine);
/* Pages of 4 KiB that tables lie in. VT-d and AMD-Vi alone. */
iommu_status iommu_tables_page_count(iommu_tables *tables, size_t *count);

/* Live units --------------------------------------------------------------------------------------------- */

/* A unit whose registers software writes, with caches, faults and interrupts. It reads tables in, and stores
 * what it stores to, a memory that was made by iommu_memory_create() or iommu_memory_adopt(). */
typedef struct iommu_unit iommu_unit;

/* An interrupt that a unit raises itself: a store of `data` to `address`. Called with no lock held. */
typedef void (*iommu_interrupt_call)(uint64_t address, uint32_t data, void *context);

typedef struct iommu_unit_options {
  size_t size;
  /* "qemu", "2008" or "current"; null for "current". Of Calgary "calgary" or "calioc2"; of GART not looked
   * at. */
  const char *model;
  /* In place of the model's, where not 0: CAP_REG and ECAP_REG of VT-d; the Extended Feature Register of
   * AMD-Vi in the first of the two. */
  uint64_t capability;
  uint64_t extended_capability;
  /* May be null. */
  iommu_interrupt_call interrupt;
  void *context;
  /* Not 0: nothing is kept between two requests. */
  int32_t has_no_caches;
  /* GART: northbridges, 1 to 8; 0 for 1. */
  int32_t node_count;
  /* Calgary: the buses of each bridge, as firmware leaves them. Null: one bridge above all buses. */
  const iommu_calgary_bridge *bridges;
  size_t bridge_count;
} iommu_unit_options;

/* After a reset. Options may be null. */
iommu_status iommu_unit_create(iommu_memory *memory, iommu_hardware hardware, const iommu_unit_options *options,
                               iommu_unit **unit);
iommu_status iommu_unit_free(iommu_unit *unit);
iommu_status iommu_unit_reset(iommu_unit *unit);
/* Bytes of the register window; 0 for a GART, which has configuration space alone. */
iommu_status iommu_unit_window_size(iommu_unit *unit, uint64_t *size);
/* A load and a store of `width` bytes, 1 to 8, as x86 does them; what the unit does not know as a register, or
 * not in this width, reads as its manual or docs say and takes nothing. Commands are done when the call
 * returns. */
iommu_status iommu_unit_read(iommu_unit *unit, uint64_t offset, uint32_t width, uint64_t *value);
iommu_status iommu_unit_write(iommu_unit *unit, uint64_t offset, uint32_t width, uint64_t value);
/* Configuration space: of an AMD-Vi unit's function in doublewords, `requester` is not looked at; of
 * northbridges by function, any width up to 8. */
iommu_status iommu_unit_read_configuration(iommu_unit *unit, uint16_t requester, uint32_t offset,
                                           uint32_t width, uint64_t *value);
iommu_status iommu_unit_write_configuration(iommu_unit *unit, uint16_t requester, uint32_t offset,
                                            uint32_t width, uint64_t value);

/* Where devices' requests enter a unit. A VT-d unit may have any number of ports, each with caches of its own
 * and for one thread at a time; those of the other units are all the same. */
typedef struct iommu_port iommu_port;
iommu_status iommu_port_create(iommu_unit *unit, iommu_port **port);
iommu_status iommu_port_free(iommu_port *port);
/* What becomes of a request up to the end of its page. Faults are recorded when the call returns, and A and D
 * are set, as the unit does. The segment of `device` does not count: the unit stands in one; a device that it
 * does not stand above reaches what it asks for. */
iommu_status iommu_port_translate(iommu_port *port, iommu_device device, uint32_t pasid, uint64_t iova,
                                  uint64_t byte_count, iommu_access access, iommu_translation *translation);
/* Requests of one device without PASID, one word for each answer, as iommu_translate() has them. */
iommu_status iommu_port_translate_batch(iommu_port *port, iommu_device device, const uint64_t *iovas,
                                        size_t count, iommu_access access, uint64_t *answers);
/* A device's DMA: moves bytes between `bytes` and the unit's memory, page by page, each as the unit answers.
 * `*done` is how many went before the first that did not; `translation`, which may be null, is what became of the
 * last piece: a fault that stopped it, or memory, where all went or where the unit lets through what no memory
 * answers. */
iommu_status iommu_port_dma(iommu_port *port, iommu_device device, uint32_t pasid, uint64_t iova, void *bytes,
                            size_t byte_count, iommu_access access, size_t *done,
                            iommu_translation *translation);

typedef int32_t iommu_interrupt_kind;
enum {
  /* Goes on as it stands. */
  IOMMU_INTERRUPT_PASSED = 0,
  /* To `destination` with `vector`. */
  IOMMU_INTERRUPT_DELIVERED = 1,
  /* Posted in memory, or a guest's; with a notification `vector` and `destination` say which, otherwise -1. */
  IOMMU_INTERRUPT_POSTED = 2,
  IOMMU_INTERRUPT_BLOCKED = 3
};
typedef struct iommu_interrupt {
  size_t size;
  iommu_interrupt_kind kind;
  int32_t vector;
  int64_t destination;
  /* Blocked: the manual's number; -1 where there is none. */
  int32_t fault;
  int32_t reserved;
} iommu_interrupt;
/* A device's store to the interrupt address range, on its way to the processors. VT-d and AMD-Vi alone. */
iommu_status iommu_unit_remap_interrupt(iommu_unit *unit, iommu_device device, uint64_t address, uint32_t data,
                                        iommu_interrupt *interrupt);

#ifdef __cplusplus
}
#endif

#endif
