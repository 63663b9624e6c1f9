/* A virtual machine monitor in two hundred lines: a guest's RAM, a VT-d unit whose registers the guest writes,
 * and a disk that does DMA through it.
 *
 *   cc -std=c99 -o vmm vmm.c $(pkg-config --cflags --libs iommu) && ./vmm
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "iommu.h"

#define RAM_SIZE ((uint64_t)64 << 20)
#define UNIT_BASE 0xfed90000u /* Where the guest finds the unit's registers. */

/* What a monitor has of its guest. */
struct machine {
  uint8_t *ram;
  iommu_memory *memory;
  iommu_unit *unit;
  int interrupts;
};

/* A disk: where requests of its driver lie, and the way from it to memory. */
struct disk {
  iommu_port *port;
  iommu_device device;
  uint8_t sectors[16][512];
};

/* A request as the driver leaves it in memory: read `count` sectors from `sector` on into `buffer`. */
struct request {
  uint64_t buffer;
  uint32_t sector, count;
};

static void check(iommu_status status, const char *what) {
  if (status == IOMMU_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, iommu_status_text(status), iommu_last_error());
  exit(1);
}

/* The unit has something to tell: the monitor would inject the message into the guest. */
static void interrupt(uint64_t address, uint32_t data, void *context) {
  struct machine *machine = (struct machine *)context;
  machine->interrupts++;
  printf("interrupt: %#" PRIx32 " to %#" PRIx64 "\n", data, address);
}

/* The guest's loads and stores outside of RAM end here. */
static uint64_t load(struct machine *machine, uint64_t address, uint32_t width) {
  uint64_t value = 0;
  check(iommu_unit_read(machine->unit, address - UNIT_BASE, width, &value), "load");
  return value;
}

static void store(struct machine *machine, uint64_t address, uint32_t width, uint64_t value) {
  check(iommu_unit_write(machine->unit, address - UNIT_BASE, width, value), "store");
}

/* The disk looks at its queue and does what it finds there. Both are DMA: addresses are the device's own. */
static void serve(struct disk *disk, uint64_t queue) {
  struct request request;
  size_t done = 0;
  iommu_translation answer;
  answer.size = sizeof answer;
  check(iommu_port_dma(disk->port, disk->device, IOMMU_NO_PASID, queue, &request, sizeof request, IOMMU_READ, &done,
                       &answer),
        "queue");
  if (done < sizeof request) {
    printf("disk: the queue at %#" PRIx64 " cannot be read: %s\n", queue, iommu_translation_text(&answer));
    return;
  }
  if (request.sector >= 16 || request.count > 16 - request.sector) {
    printf("disk: no such sectors\n");
    return;
  }
  size_t size = (size_t)request.count * 512;
  check(iommu_port_dma(disk->port, disk->device, IOMMU_NO_PASID, request.buffer, disk->sectors[request.sector], size,
                       IOMMU_WRITE, &done, &answer),
        "buffer");
  printf("disk: %zu of %zu bytes to %#" PRIx64 "%s%s\n", done, size, request.buffer, done < size ? ": " : "",
         done < size ? iommu_translation_text(&answer) : "");
}

int main(void) {
  /* The monitor: RAM that the guest runs in, and the unit in front of it. */
  struct machine machine;
  memset(&machine, 0, sizeof machine);
  machine.ram = (uint8_t *)mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (machine.ram == MAP_FAILED) return 1;
  iommu_ram ram = {0, machine.ram, RAM_SIZE};
  check(iommu_memory_adopt(&ram, 1, NULL, NULL, &machine.memory), "RAM");
  iommu_unit_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.model = "qemu";
  options.interrupt = interrupt;
  options.context = &machine;
  check(iommu_unit_create(machine.memory, IOMMU_VTD, &options, &machine.unit), "unit");
  struct disk disk;
  memset(&disk, 0, sizeof disk);
  disk.device = iommu_pci(0, 0, 3, 0);
  check(iommu_port_create(machine.unit, &disk.port), "port");
  for (int sector = 0; sector < 16; sector++) memset(disk.sectors[sector], 'a' + sector, 512);

  /* The guest's kernel: tables in its RAM, made here by the library, as a driver would. The disk's driver maps
   * its queue for reading, and a buffer of two pages for writing. */
  iommu_tables *tables = NULL;
  check(iommu_tables_create_vtd(machine.memory, NULL, &tables), "tables");
  const uint64_t queue_page = 0x100000, buffer_pages = 0x200000;
  const uint64_t queue = 0xfffff000, buffer = 0xffff0000;
  check(iommu_tables_map(tables, disk.device, IOMMU_NO_PASID, queue, queue_page, 0x1000, IOMMU_MAP_READ), "queue");
  check(iommu_tables_map(tables, disk.device, IOMMU_NO_PASID, buffer, buffer_pages, 0x2000, IOMMU_MAP_WRITE),
        "buffer");
  uint64_t root = 0;
  check(iommu_tables_root(tables, &root), "root");
  /* RTADDR_REG, then GCMD.SRTP and GCMD.TE; a fault event's data and address, and the event unmasked. */
  store(&machine, UNIT_BASE + 0x20, 8, root);
  store(&machine, UNIT_BASE + 0x18, 4, (uint32_t)1 << 30);
  store(&machine, UNIT_BASE + 0x3c, 4, 0x41);
  store(&machine, UNIT_BASE + 0x40, 4, 0xfee00000);
  store(&machine, UNIT_BASE + 0x38, 4, 0);
  store(&machine, UNIT_BASE + 0x18, 4, (uint32_t)1 << 31);
  printf("GSTS_REG: %#" PRIx64 "\n", load(&machine, UNIT_BASE + 0x1c, 4));

  /* The driver asks for three sectors, which go over the end of the first page. */
  struct request request = {buffer + 0xe00, 2, 3};
  memcpy(machine.ram + queue_page, &request, sizeof request);
  serve(&disk, queue);
  printf("guest: '%c' at %#x, '%c' at %#x\n", machine.ram[buffer_pages + 0xe00], 0x200e00,
         machine.ram[buffer_pages + 0x1000], 0x201000);

  /* It asks for more than it has mapped: the unit lets through what may pass, and tells the guest. */
  request.buffer = buffer + 0x1c00;
  memcpy(machine.ram + queue_page, &request, sizeof request);
  serve(&disk, queue);

  /* The record of the fault, at FRO of CAP_REG: who it was, and why. */
  const uint64_t record = UNIT_BASE + (load(&machine, UNIT_BASE + 8, 8) >> 24 & 0x3ff) * 16;
  const uint64_t high = load(&machine, record + 8, 8);
  printf("FRCD_REG: address %#" PRIx64 ", source %#" PRIx64 ", reason %#" PRIx64 "\n", load(&machine, record, 8),
         high & 0xffff, high >> 32 & 0xff);

  check(iommu_port_free(disk.port), "port");
  check(iommu_tables_free(tables), "tables");
  check(iommu_unit_free(machine.unit), "unit");
  check(iommu_memory_free(machine.memory), "RAM");
  munmap(machine.ram, RAM_SIZE);
  return machine.interrupts == 1 ? 0 : 1;
}
