//! libiommu's C ABI, `iommu.h`, for Rust: no build script and no other crate.
//!
//! Names and what they mean are the header's, in its order. Handles are numbers in the shape of pointers: a
//! stale one is refused with [`IOMMU_ERROR_HANDLE`]. Structures that a caller fills begin with their size;
//! [`zeroed`] makes them with all else zero, which asks for what is usual.
//!
//! Links with `-liommu`: `RUSTFLAGS="-L .build/library"` where `make library` has made it.

#![no_std]
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_void};
use core::mem;

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/rust.md")]
struct Page;

/// A structure of this crate that begins with its size and is zero otherwise.
///
/// ```
/// use iommu_sys::{iommu_translation, zeroed};
///
/// let translation: iommu_translation = zeroed();
/// assert_eq!((translation.size, translation.physical), (48, 0));
/// ```
pub fn zeroed<T: SizeFirst>() -> T {
    // Sound: structures of this crate are of numbers, pointers and optional functions.
    let mut value: T = unsafe { mem::zeroed() };
    unsafe { *(&mut value as *mut T as *mut usize) = mem::size_of::<T>() };
    value
}

/// Structures whose first member is their size.
///
/// # Safety
///
/// The first member is `size: usize`, and all bits zero is a value.
pub unsafe trait SizeFirst: Copy {}

unsafe impl SizeFirst for iommu_memory_calls {}
unsafe impl SizeFirst for iommu_vtd_registers {}
unsafe impl SizeFirst for iommu_amdvi_registers {}
unsafe impl SizeFirst for iommu_calgary_registers {}
unsafe impl SizeFirst for iommu_gart_registers {}
unsafe impl SizeFirst for iommu_translation {}
unsafe impl SizeFirst for iommu_walk_step {}
unsafe impl SizeFirst for iommu_mapping {}
unsafe impl SizeFirst for iommu_candidate {}
unsafe impl SizeFirst for iommu_verdict {}
unsafe impl SizeFirst for iommu_vtd_options {}
unsafe impl SizeFirst for iommu_amdvi_options {}
unsafe impl SizeFirst for iommu_calgary_options {}
unsafe impl SizeFirst for iommu_gart_options {}
unsafe impl SizeFirst for iommu_unit_options {}
unsafe impl SizeFirst for iommu_interrupt {}

/// What this crate describes. A library of the same ABI version has all of it.
pub const IOMMU_ABI_VERSION: u32 = 1;

pub type iommu_status = i32;
pub const IOMMU_OK: iommu_status = 0;
/// An argument is null, out of range, unaligned, or a structure of a size that is none.
pub const IOMMU_ERROR_ARGUMENT: iommu_status = 1;
/// A handle that is none, was freed, or is of another kind.
pub const IOMMU_ERROR_HANDLE: iommu_status = 2;
/// Memory is not granted, takes no stores, or does not hold what it said.
pub const IOMMU_ERROR_MEMORY: iommu_status = 3;
/// A file cannot be read, or is not what it should be.
pub const IOMMU_ERROR_INPUT: iommu_status = 4;
/// The tables refuse: mapped already, not mapped, no room, no such domain.
pub const IOMMU_ERROR_TABLES: iommu_status = 5;
/// This hardware, mode or kind of memory has no such thing.
pub const IOMMU_ERROR_UNSUPPORTED: iommu_status = 6;
/// What was looked for is not there, or not for certain.
pub const IOMMU_ERROR_NOT_FOUND: iommu_status = 7;
/// A callback has asked to stop.
pub const IOMMU_STOPPED: iommu_status = 8;

/// A PCI function: bits 47:16 its segment, 15:8 bus, 7:3 device, 2:0 function. The lower 16 bits are
/// the requester-id that its requests carry.
pub type iommu_device = u64;

/// The function SEGMENT:BUS:DEVICE.FUNCTION.
pub const fn iommu_pci(segment: u32, bus: u8, device: u8, function: u8) -> iommu_device {
    (segment as u64) << 16 | (bus as u64) << 8 | ((device & 31) as u64) << 3 | (function & 7) as u64
}

/// For requests that carry no PASID. All others carry 20 bits.
pub const IOMMU_NO_PASID: u32 = u32::MAX;

pub type iommu_access = i32;

/// The device reads memory.
pub const IOMMU_READ: iommu_access = 0;
/// The device writes memory.
pub const IOMMU_WRITE: iommu_access = 1;

/// The physical memory of a machine: where tables lie.
#[repr(C)]
pub struct iommu_memory {
    _private: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_range {
    pub address: u64,
    pub size: u64,
}

/// A piece of memory that is the caller's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_ram {
    /// Its first physical address, a multiple of 4 KiB.
    pub address: u64,
    /// Where it lies in this process, at a multiple of 4 KiB.
    pub bytes: *mut c_void,
    /// Whole pages of 4 KiB.
    pub size: u64,
}

/// Memory that is asked for by calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_memory_calls {
    pub size: usize,
    /// Given to each call.
    pub context: *mut c_void,
    /// What answers: ascending, not touching each other. Copied.
    pub ranges: *const iommu_range,
    pub range_count: usize,
    /// Not null. Copies up to `size` bytes from `address` on, and returns how many: fewer, or 0, where
    /// the rest is not there. Aligned words of 4 and 8 bytes are read whole. May be called by several
    /// threads at once if the caller does so.
    pub read: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            address: u64,
            bytes: *mut c_void,
            size: usize,
        ) -> usize,
    >,
    /// Stores, likewise. Null: nothing can be written.
    pub write: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            address: u64,
            bytes: *const c_void,
            size: usize,
        ) -> usize,
    >,
    /// Stores `desired` in the little-endian quadword at `address` when it holds `*expected`, and
    /// returns 1; otherwise leaves in `*expected` what it holds, and returns 0. Null: a read and a
    /// write take its place, which nobody else may come between.
    pub compare_exchange: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            address: u64,
            expected: *mut u64,
            desired: u64,
        ) -> i32,
    >,
    /// Called when nothing uses the memory any more; may be null. When the call that makes the memory
    /// fails it is not called.
    pub release: Option<unsafe extern "C" fn(context: *mut c_void)>,
    /// Not 0: the memory is a dump. What does not answer is unknown then, instead of not there.
    pub is_dump: i32,
    pub reserved: i32,
}

/// Which units there are and what their registers hold, as values.
#[repr(C)]
pub struct iommu_machine {
    _private: [u8; 0],
}

/// Registers of a VT-d unit (Intel VT-d 11.4).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_vtd_registers {
    pub size: usize,
    /// Where the registers lie: the unit's name.
    pub base: u64,
    /// RTADDR_REG.
    pub root_table_address: u64,
    /// CAP_REG and ECAP_REG; both 0: everything that is legal.
    pub capability: u64,
    pub extended_capability: u64,
    /// IRTA_REG.
    pub interrupt_table_address: u64,
    /// GSTS_REG; 0: DMA remapping is on and nothing else.
    pub global_status: u32,
    /// Bits of a physical address, 32 to 52; 0 for 52.
    pub host_address_width: u32,
    /// The PCI segment of its devices.
    pub segment: u32,
    pub reserved: u32,
}

/// Registers of an AMD-Vi unit (AMD IOMMU 3.4).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_amdvi_registers {
    pub size: usize,
    pub base: u64,
    /// Device Table Base Address Register.
    pub device_table_base: u64,
    /// IOMMU Control Register; 0: IommuEn and GTEn.
    pub control: u64,
    /// Extended Feature Register; 0: it is not known.
    pub extended_features: u64,
    pub segment: u32,
    pub reserved: u32,
}

/// A PCI host bridge of a Calgary or CalIOC2 chip. Values are numbered as documented, the most
/// significant bit first in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_calgary_bridge {
    pub first_bus: u8,
    pub last_bus: u8,
    pub reserved: [u8; 6],
    /// TAR.
    pub table_address: u64,
    /// PHB configuration register; 0: translation is on.
    pub configuration: u32,
    pub reserved2: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_calgary_registers {
    pub size: usize,
    pub base: u64,
    /// 1 to 4 bridges. Copied.
    pub bridges: *const iommu_calgary_bridge,
    pub bridge_count: usize,
    /// Not 0: CalIOC2.
    pub is_calioc2: i32,
    pub reserved: i32,
}

/// Registers of a northbridge with a GART (AMD BKDG, function 3: 0x90, 0x94, 0x98).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_gart_registers {
    pub size: usize,
    /// Function 3 of the northbridge; 0 for 00:18.3.
    pub requester: u16,
    pub reserved: u16,
    pub aperture_control: u32,
    pub aperture_base: u32,
    pub table_base: u32,
}

pub type iommu_answer_kind = i32;

/// It goes to memory.
pub const IOMMU_MEMORY: iommu_answer_kind = 0;
/// The hardware blocks it.
pub const IOMMU_FAULT: iommu_answer_kind = 1;
/// It is an interrupt message.
pub const IOMMU_INTERRUPT: iommu_answer_kind = 2;

pub type iommu_hardware = i32;
pub const IOMMU_PLATFORM: iommu_hardware = 0;
pub const IOMMU_VTD: iommu_hardware = 1;
pub const IOMMU_GART: iommu_hardware = 2;
pub const IOMMU_CALGARY: iommu_hardware = 3;
pub const IOMMU_AMDVI: iommu_hardware = 4;

/// What becomes of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_translation {
    pub size: usize,
    pub kind: iommu_answer_kind,
    /// Whose number a fault's is.
    pub hardware: iommu_hardware,
    /// Memory: where the first byte goes, and how many follow it in one run, at most to the end of the
    /// page.
    pub physical: u64,
    pub byte_count: u64,
    /// Fault: the manual's number; -1 where the hardware has none.
    pub fault: i32,
    /// Fault: hardware keeps something that tells software of it.
    pub is_recorded: i32,
    /// Fault: no memory answered where a table should be, or nothing is known of the unit. Of a dump
    /// that is no answer.
    pub is_unanswered: i32,
    /// The library's own number of the fault, for iommu_translation_text().
    pub detail: i32,
}

/// The tables of one device in a memory: made once, used for millions of requests. It goes stale when
/// the registers or the device's root, context or device table entry change; page tables are read anew
/// by each call.
#[repr(C)]
pub struct iommu_translator {
    _private: [u8; 0],
}

/// The answer to what was no request.
pub const IOMMU_NO_ANSWER: u64 = u64::MAX;
/// Whether an answer in one word is a physical address: IOMMU_IS_MEMORY.
pub const fn iommu_is_memory(answer: u64) -> bool {
    answer >> 63 == 0
}

/// An entry that a walk read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_walk_step {
    pub size: usize,
    /// The entry's name in the manual, as "SS-PTE".
    pub name: *const c_char,
    /// Its fields, as "ADDR=0x7663000 W=0x1 R=0x1", and what they say in words.
    pub fields: *const c_char,
    pub meaning: *const c_char,
    /// Its section in the manual.
    pub specification: *const c_char,
    /// Where it lies.
    pub address: u64,
    /// Its number in its table.
    pub index: u64,
    /// The level of page tables, from 1; 0 for tables above them.
    pub level: i32,
    /// Words of 8 bytes in use below, lowest first; one of 4 bytes counts as one.
    pub word_count: u32,
    pub words: [u64; 8],
}

/// Pages in a row that are mapped alike.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_mapping {
    pub size: usize,
    /// Whose: "00:03.0", "00:03.0/5" with a PASID, "bus:02", "gart".
    pub owner: *const c_char,
    pub iova: u64,
    pub physical: u64,
    pub byte_count: u64,
    /// Not 0: reads pass; writes pass.
    pub can_read: i32,
    pub can_write: i32,
    /// The first owner with the very same table: its mappings are the owner's too, and are not listed
    /// again. Null otherwise; `byte_count` is 0 where it is not.
    pub same_as: *const c_char,
    /// Not 0: the device has no table and reaches all of memory by its own addresses; `byte_count` is
    /// 0.
    pub is_pass_through: i32,
    pub reserved: i32,
}

/// Something in memory that looks like a table.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_candidate {
    pub size: usize,
    /// "VT-d root table".
    pub kind: *const c_char,
    /// What speaks for it and what against, a line each.
    pub reasons: *const c_char,
    pub address: u64,
    pub byte_count: u64,
    /// 0 to 100.
    pub score: i32,
    /// Not 0: nothing else is known to look like that.
    pub is_certain: i32,
}

pub type iommu_outcome = i32;
pub const IOMMU_HOLDS: iommu_outcome = 0;
pub const IOMMU_BROKEN: iommu_outcome = 1;
pub const IOMMU_UNKNOWN: iommu_outcome = 2;
/// Nothing on this machine can break it.
pub const IOMMU_NOT_APPLICABLE: iommu_outcome = 3;

/// What one of the thirteen checks of the Kdump IO Rule came to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_verdict {
    pub size: usize,
    /// 1 to 13.
    pub rule: i32,
    pub outcome: iommu_outcome,
    /// What must hold.
    pub statement: *const c_char,
    /// What was found, a line each.
    pub findings: *const c_char,
}

/// The tables of one unit, in a memory that can be written.
#[repr(C)]
pub struct iommu_tables {
    _private: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_vtd_options {
    pub size: usize,
    /// CAP_REG and ECAP_REG; both 0: everything that is legal.
    pub capability: u64,
    pub extended_capability: u64,
    /// Pages for tables come from here, its end first; size 0: from all of the memory.
    pub table_range: iommu_range,
    /// Not 0: scalable mode.
    pub is_scalable: i32,
    /// Levels of second-stage tables, 3 to 5; 0 for 4.
    pub levels: i32,
    /// Room for PASIDs, as a power of two, 13 to 20; 0 for 15.
    pub pasid_bits: i32,
    /// Bits of a physical address, 32 to 52; 0 for 52.
    pub host_address_width: u32,
    pub segment: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_amdvi_options {
    pub size: usize,
    /// Extended Feature Register; 0: everything that is legal.
    pub extended_features: u64,
    pub table_range: iommu_range,
    /// Room for buses 0 to this one; 0 for 255.
    pub last_bus: u32,
    /// Room for PASIDs, as a power of two, 1 to 20; 0 for 9.
    pub pasid_bits: i32,
    pub segment: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_calgary_options {
    pub size: usize,
    pub table_range: iommu_range,
    /// Bytes of each TCE table, 64 KiB to 8 MiB; 0 for 1 MiB, which is for 512 MiB of addresses.
    pub table_size: u64,
    /// Of each bridge its buses; the other members do not count. Null: one bridge above all buses.
    pub bridges: *const iommu_calgary_bridge,
    pub bridge_count: usize,
    pub is_calioc2: i32,
    pub reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_gart_options {
    pub size: usize,
    pub table_range: iommu_range,
    /// The aperture's first address, a multiple of its size; 0 for 2 GiB.
    pub base: u64,
    /// 32 MiB << order are translated, 0 to 6.
    pub order: i32,
    pub reserved: i32,
}

/// What a mapping allows; together IOMMU_READ_WRITE. A GART's always allow both.
pub const IOMMU_MAP_READ: u32 = 1;
pub const IOMMU_MAP_WRITE: u32 = 2;
pub const IOMMU_READ_WRITE: u32 = 3;
/// The largest pages that the unit has and both addresses allow, instead of 4 KiB.
pub const IOMMU_LARGEST_PAGES: u32 = 0x100;
/// Over whatever is mapped there, instead of where nothing is.
pub const IOMMU_REMAP: u32 = 0x200;

/// Domains: address spaces that devices share. VT-d and AMD-Vi alone.
pub type iommu_domain_kind = i32;

/// VT-d second-stage tables of 3 to 5 levels; AMD-Vi host tables of 1 to 6.
pub const IOMMU_DOMAIN_HOST: iommu_domain_kind = 0;
/// VT-d first-stage tables, AMD-Vi guest tables: 4 or 5 levels.
pub const IOMMU_DOMAIN_PROCESS: iommu_domain_kind = 1;
/// The same in the addresses of a guest, whose memory the domain `host` maps.
pub const IOMMU_DOMAIN_NESTED: iommu_domain_kind = 2;
/// The device's addresses are physical ones.
pub const IOMMU_DOMAIN_PASS_THROUGH: iommu_domain_kind = 3;

/// A unit whose registers software writes, with caches, faults and interrupts. It reads tables in, and
/// stores what it stores to, a memory that was made by iommu_memory_create() or iommu_memory_adopt().
#[repr(C)]
pub struct iommu_unit {
    _private: [u8; 0],
}

/// An interrupt that a unit raises itself: a store of `data` to `address`. Called with no lock held.
pub type iommu_interrupt_call =
    Option<unsafe extern "C" fn(address: u64, data: u32, context: *mut c_void)>;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_unit_options {
    pub size: usize,
    /// "qemu", "2008" or "current"; null for "current". Of Calgary "calgary" or "calioc2"; of GART not
    /// looked at.
    pub model: *const c_char,
    /// In place of the model's, where not 0: CAP_REG and ECAP_REG of VT-d; the Extended Feature
    /// Register of AMD-Vi in the first of the two.
    pub capability: u64,
    pub extended_capability: u64,
    /// May be null.
    pub interrupt: iommu_interrupt_call,
    pub context: *mut c_void,
    /// Not 0: nothing is kept between two requests.
    pub has_no_caches: i32,
    /// GART: northbridges, 1 to 8; 0 for 1.
    pub node_count: i32,
    /// Calgary: the buses of each bridge, as firmware leaves them. Null: one bridge above all buses.
    pub bridges: *const iommu_calgary_bridge,
    pub bridge_count: usize,
}

/// Where devices' requests enter a unit. A VT-d unit may have any number of ports, each with caches of
/// its own and for one thread at a time; those of the other units are all the same.
#[repr(C)]
pub struct iommu_port {
    _private: [u8; 0],
}

pub type iommu_interrupt_kind = i32;

/// Goes on as it stands.
pub const IOMMU_INTERRUPT_PASSED: iommu_interrupt_kind = 0;
/// To `destination` with `vector`.
pub const IOMMU_INTERRUPT_DELIVERED: iommu_interrupt_kind = 1;
/// Posted in memory, or a guest's; with a notification `vector` and `destination` say which, otherwise
/// -1.
pub const IOMMU_INTERRUPT_POSTED: iommu_interrupt_kind = 2;
pub const IOMMU_INTERRUPT_BLOCKED: iommu_interrupt_kind = 3;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct iommu_interrupt {
    pub size: usize,
    pub kind: iommu_interrupt_kind,
    pub vector: i32,
    pub destination: i64,
    /// Blocked: the manual's number; -1 where there is none.
    pub fault: i32,
    pub reserved: i32,
}

#[link(name = "iommu")]
extern "C" {
    /// The ABI version of the library, to compare with IOMMU_ABI_VERSION.
    pub fn iommu_abi_version() -> u32;
    /// The version of the library, as "0.2.0". Stays valid.
    pub fn iommu_version() -> *const c_char;
    /// Why the last call of this thread that failed has failed: one line or several, "" when none has.
    /// Valid until the thread's next call that fails.
    pub fn iommu_last_error() -> *const c_char;
    /// A status in a few words. Stays valid.
    pub fn iommu_status_text(status: iommu_status) -> *const c_char;
    /// Reads "00:1f.2", "0001:00:1f.2" and the other forms in which logs name a function.
    pub fn iommu_parse_device(text: *const c_char, device: *mut iommu_device) -> iommu_status;
    /// Memory of the library's own: `size` bytes of RAM from address 0 on, zeros, which cost what is
    /// touched.
    pub fn iommu_memory_create(size: u64, memory: *mut *mut iommu_memory) -> iommu_status;
    /// Memory that lies in this process, such as the RAM of a virtual machine; nothing is copied. It
    /// stays mapped for as long as the memory or anything made over it is there; whoever else uses it
    /// at the same time reads and writes whole aligned words. release: called with `context` when
    /// nothing uses the memory any more; may be null. When the call fails it is not called.
    pub fn iommu_memory_adopt(
        ram: *const iommu_ram,
        count: usize,
        release: Option<unsafe extern "C" fn(context: *mut c_void)>,
        context: *mut c_void,
        memory: *mut *mut iommu_memory,
    ) -> iommu_status;
    pub fn iommu_memory_create_with_calls(
        calls: *const iommu_memory_calls,
        memory: *mut *mut iommu_memory,
    ) -> iommu_status;
    /// A memory dump: ELF core, kdump-compressed, flattened, LiME, raw; `count` is 1 but for the parts
    /// of a split one. Nothing can be written. Files that become shorter read as zeros from then on,
    /// which iommu_memory_check() tells.
    pub fn iommu_memory_open(
        paths: *const *const c_char,
        count: usize,
        memory: *mut *mut iommu_memory,
    ) -> iommu_status;
    /// IOMMU_ERROR_INPUT when something of a dump could not be read since it was opened.
    pub fn iommu_memory_check(memory: *mut iommu_memory) -> iommu_status;
    /// Copies up to `size` bytes from `address` on; `*done` is how many are there in one run, 0 for
    /// none.
    pub fn iommu_memory_read(
        memory: *mut iommu_memory,
        address: u64,
        bytes: *mut c_void,
        size: usize,
        done: *mut usize,
    ) -> iommu_status;
    /// Stores up to `size` bytes from `address` on; `*done` is how many were stored.
    pub fn iommu_memory_write(
        memory: *mut iommu_memory,
        address: u64,
        bytes: *const c_void,
        size: usize,
        done: *mut usize,
    ) -> iommu_status;
    /// What answers: stores up to `capacity` ranges, ascending, and in `*count` how many there are.
    /// `ranges` may be null when `capacity` is 0.
    pub fn iommu_memory_ranges(
        memory: *mut iommu_memory,
        ranges: *mut iommu_range,
        capacity: usize,
        count: *mut usize,
    ) -> iommu_status;
    /// Null is no memory, and nothing happens. So with all functions that end in _free.
    pub fn iommu_memory_free(memory: *mut iommu_memory) -> iommu_status;
    /// A machine without units, whose devices see physical addresses.
    pub fn iommu_machine_create(machine: *mut *mut iommu_machine) -> iommu_status;
    /// What a machine file says.
    pub fn iommu_machine_open(
        path: *const c_char,
        machine: *mut *mut iommu_machine,
    ) -> iommu_status;
    /// What a dump tells by itself: what its kernel says of its units, or else the tables that are
    /// certainly some. IOMMU_ERROR_NOT_FOUND when there is none.
    pub fn iommu_machine_find(
        memory: *mut iommu_memory,
        machine: *mut *mut iommu_machine,
    ) -> iommu_status;
    /// The number of units.
    pub fn iommu_machine_unit_count(machine: *mut iommu_machine, count: *mut usize)
        -> iommu_status;
    pub fn iommu_machine_free(machine: *mut iommu_machine) -> iommu_status;
    pub fn iommu_machine_add_vtd(
        machine: *mut iommu_machine,
        registers: *const iommu_vtd_registers,
    ) -> iommu_status;
    pub fn iommu_machine_add_amdvi(
        machine: *mut iommu_machine,
        registers: *const iommu_amdvi_registers,
    ) -> iommu_status;
    pub fn iommu_machine_add_calgary(
        machine: *mut iommu_machine,
        registers: *const iommu_calgary_registers,
    ) -> iommu_status;
    pub fn iommu_machine_add_gart(
        machine: *mut iommu_machine,
        registers: *const iommu_gart_registers,
    ) -> iommu_status;
    /// Says where the crash kernel lies; iommu_verify() wants to know. Takes the place of what was
    /// known.
    pub fn iommu_machine_set_crash_kernel(
        machine: *mut iommu_machine,
        ranges: *const iommu_range,
        count: usize,
    ) -> iommu_status;
    /// The fault of an answer in words, as "fault 0x5: write without write permission, or no mapping";
    /// "" for what is no fault. Stays valid.
    pub fn iommu_translation_text(translation: *const iommu_translation) -> *const c_char;
    /// pasid: what requests carry, or IOMMU_NO_PASID. IOMMU_ERROR_NOT_FOUND when no unit serves the
    /// device's segment.
    pub fn iommu_translator_create(
        machine: *mut iommu_machine,
        memory: *mut iommu_memory,
        device: iommu_device,
        pasid: u32,
        translator: *mut *mut iommu_translator,
    ) -> iommu_status;
    pub fn iommu_translator_free(translator: *mut iommu_translator) -> iommu_status;
    /// What becomes of the first byte of a request, in one word: bits 51:0 are the physical address and
    /// all others clear, or bit 63 is set and the rest says why there is none, which iommu_answer()
    /// takes apart. A bad handle or access is answered with IOMMU_NO_ANSWER. No allocation, no lock.
    pub fn iommu_translate(
        translator: *mut iommu_translator,
        iova: u64,
        access: iommu_access,
    ) -> u64;
    /// The same for `count` requests; answers[i] is that of iovas[i]. The two do not overlap.
    pub fn iommu_translate_batch(
        translator: *mut iommu_translator,
        iovas: *const u64,
        count: usize,
        access: iommu_access,
        answers: *mut u64,
    ) -> iommu_status;
    /// What becomes of a request of `byte_count` bytes, at least 1, up to the end of its page.
    pub fn iommu_translate_request(
        translator: *mut iommu_translator,
        iova: u64,
        byte_count: u64,
        access: iommu_access,
        translation: *mut iommu_translation,
    ) -> iommu_status;
    /// An answer in one word, taken apart; `byte_count` is 1 then. IOMMU_ERROR_ARGUMENT for a word that
    /// is no answer, or that says that the address is 2^52 or more and has no room.
    pub fn iommu_answer(answer: u64, translation: *mut iommu_translation) -> iommu_status;
    /// Follows one request, entry by entry. `step` may be null; so may `translation`.
    pub fn iommu_walk(
        machine: *mut iommu_machine,
        memory: *mut iommu_memory,
        device: iommu_device,
        pasid: u32,
        iova: u64,
        access: iommu_access,
        step: Option<
            unsafe extern "C" fn(step: *const iommu_walk_step, context: *mut c_void) -> i32,
        >,
        context: *mut c_void,
        translation: *mut iommu_translation,
    ) -> iommu_status;
    /// Lists every mapping of every table, ascending by IOVA within each. What of the tables is not
    /// known goes to `unknown`, a line each; it may be null.
    pub fn iommu_maps(
        machine: *mut iommu_machine,
        memory: *mut iommu_memory,
        mapping: Option<
            unsafe extern "C" fn(mapping: *const iommu_mapping, context: *mut c_void) -> i32,
        >,
        unknown: Option<unsafe extern "C" fn(text: *const c_char, context: *mut c_void) -> i32>,
        context: *mut c_void,
    ) -> iommu_status;
    /// Looks for tables by their structure alone.
    pub fn iommu_find(
        memory: *mut iommu_memory,
        candidate: Option<
            unsafe extern "C" fn(candidate: *const iommu_candidate, context: *mut c_void) -> i32,
        >,
        context: *mut c_void,
    ) -> iommu_status;
    /// Judges a machine by the Rule: `conclusion` is IOMMU_HOLDS, IOMMU_BROKEN or IOMMU_UNKNOWN. Where
    /// the crash kernel is, the machine says, or else a dump's VMCOREINFO and kernel. devices: what the
    /// kdump kernel needs; with a count of 0 all devices that have a table. `verdict` may be null.
    pub fn iommu_verify(
        machine: *mut iommu_machine,
        memory: *mut iommu_memory,
        devices: *const iommu_device,
        count: usize,
        verdict: Option<
            unsafe extern "C" fn(verdict: *const iommu_verdict, context: *mut c_void) -> i32,
        >,
        context: *mut c_void,
        conclusion: *mut iommu_outcome,
    ) -> iommu_status;
    /// Options may be null: all of them are what is usual then.
    pub fn iommu_tables_create_vtd(
        memory: *mut iommu_memory,
        options: *const iommu_vtd_options,
        tables: *mut *mut iommu_tables,
    ) -> iommu_status;
    pub fn iommu_tables_create_amdvi(
        memory: *mut iommu_memory,
        options: *const iommu_amdvi_options,
        tables: *mut *mut iommu_tables,
    ) -> iommu_status;
    pub fn iommu_tables_create_calgary(
        memory: *mut iommu_memory,
        options: *const iommu_calgary_options,
        tables: *mut *mut iommu_tables,
    ) -> iommu_status;
    pub fn iommu_tables_create_gart(
        memory: *mut iommu_memory,
        options: *const iommu_gart_options,
        tables: *mut *mut iommu_tables,
    ) -> iommu_status;
    pub fn iommu_tables_free(tables: *mut iommu_tables) -> iommu_status;
    /// Maps `size` bytes of memory from `physical` on for a device at `iova`; multiples of 4 KiB. All
    /// or nothing, but for IOMMU_REMAP. A device of VT-d or AMD-Vi that is bound to no domain gets one
    /// of its own; what a Calgary maps is for all devices below the bridge, what a GART maps for all of
    /// them. `pasid` is IOMMU_NO_PASID for Calgary and GART.
    pub fn iommu_tables_map(
        tables: *mut iommu_tables,
        device: iommu_device,
        pasid: u32,
        iova: u64,
        physical: u64,
        size: u64,
        flags: u32,
    ) -> iommu_status;
    /// The same at the addresses that the memory has: what the Kdump IO Rule wants of the crash
    /// kernel's.
    pub fn iommu_tables_map_identity(
        tables: *mut iommu_tables,
        device: iommu_device,
        pasid: u32,
        physical: u64,
        size: u64,
        flags: u32,
    ) -> iommu_status;
    /// Takes mappings away, and gives tables back in which nothing is left; larger pages of which only
    /// a part goes are split.
    pub fn iommu_tables_unmap(
        tables: *mut iommu_tables,
        device: iommu_device,
        pasid: u32,
        iova: u64,
        size: u64,
    ) -> iommu_status;
    /// levels: 0 for 4; not looked at for pass-through. host: of a nested domain alone.
    pub fn iommu_tables_create_domain(
        tables: *mut iommu_tables,
        kind: iommu_domain_kind,
        levels: i32,
        host: u16,
        domain: *mut u16,
    ) -> iommu_status;
    /// Does away with a domain that no device is bound to.
    pub fn iommu_tables_remove_domain(tables: *mut iommu_tables, domain: u16) -> iommu_status;
    /// Maps and unmaps for all devices of a domain; otherwise as for a device.
    pub fn iommu_tables_map_domain(
        tables: *mut iommu_tables,
        domain: u16,
        iova: u64,
        physical: u64,
        size: u64,
        flags: u32,
    ) -> iommu_status;
    pub fn iommu_tables_unmap_domain(
        tables: *mut iommu_tables,
        domain: u16,
        iova: u64,
        size: u64,
    ) -> iommu_status;
    pub fn iommu_tables_bind(
        tables: *mut iommu_tables,
        device: iommu_device,
        pasid: u32,
        domain: u16,
    ) -> iommu_status;
    /// Blocks the device from now on; its domain stays.
    pub fn iommu_tables_unbind(
        tables: *mut iommu_tables,
        device: iommu_device,
        pasid: u32,
    ) -> iommu_status;
    /// What a live unit wants in its register to use the tables: RTADDR_REG of VT-d, the Device Table
    /// Base Address Register of AMD-Vi; of Calgary TAR of the first bridge, of GART function 3's
    /// register 0x98.
    pub fn iommu_tables_root(tables: *mut iommu_tables, value: *mut u64) -> iommu_status;
    /// The unit with its registers as they stand when it translates through the tables.
    pub fn iommu_tables_machine(
        tables: *mut iommu_tables,
        machine: *mut *mut iommu_machine,
    ) -> iommu_status;
    /// Pages of 4 KiB that tables lie in. VT-d and AMD-Vi alone.
    pub fn iommu_tables_page_count(tables: *mut iommu_tables, count: *mut usize) -> iommu_status;
    /// After a reset. Options may be null.
    pub fn iommu_unit_create(
        memory: *mut iommu_memory,
        hardware: iommu_hardware,
        options: *const iommu_unit_options,
        unit: *mut *mut iommu_unit,
    ) -> iommu_status;
    pub fn iommu_unit_free(unit: *mut iommu_unit) -> iommu_status;
    pub fn iommu_unit_reset(unit: *mut iommu_unit) -> iommu_status;
    /// Bytes of the register window; 0 for a GART, which has configuration space alone.
    pub fn iommu_unit_window_size(unit: *mut iommu_unit, size: *mut u64) -> iommu_status;
    /// A load and a store of `width` bytes, 1 to 8, as x86 does them; what the unit does not know as a
    /// register, or not in this width, reads as its manual or docs say and takes nothing. Commands are
    /// done when the call returns.
    pub fn iommu_unit_read(
        unit: *mut iommu_unit,
        offset: u64,
        width: u32,
        value: *mut u64,
    ) -> iommu_status;
    pub fn iommu_unit_write(
        unit: *mut iommu_unit,
        offset: u64,
        width: u32,
        value: u64,
    ) -> iommu_status;
    /// Configuration space: of an AMD-Vi unit's function in doublewords, `requester` is not looked at;
    /// of northbridges by function, any width up to 8.
    pub fn iommu_unit_read_configuration(
        unit: *mut iommu_unit,
        requester: u16,
        offset: u32,
        width: u32,
        value: *mut u64,
    ) -> iommu_status;
    pub fn iommu_unit_write_configuration(
        unit: *mut iommu_unit,
        requester: u16,
        offset: u32,
        width: u32,
        value: u64,
    ) -> iommu_status;
    pub fn iommu_port_create(unit: *mut iommu_unit, port: *mut *mut iommu_port) -> iommu_status;
    pub fn iommu_port_free(port: *mut iommu_port) -> iommu_status;
    /// What becomes of a request up to the end of its page. Faults are recorded when the call returns,
    /// and A and D are set, as the unit does. The segment of `device` does not count: the unit stands
    /// in one; a device that it does not stand above reaches what it asks for.
    pub fn iommu_port_translate(
        port: *mut iommu_port,
        device: iommu_device,
        pasid: u32,
        iova: u64,
        byte_count: u64,
        access: iommu_access,
        translation: *mut iommu_translation,
    ) -> iommu_status;
    /// Requests of one device without PASID, one word for each answer, as iommu_translate() has them.
    pub fn iommu_port_translate_batch(
        port: *mut iommu_port,
        device: iommu_device,
        iovas: *const u64,
        count: usize,
        access: iommu_access,
        answers: *mut u64,
    ) -> iommu_status;
    /// A device's DMA: moves bytes between `bytes` and the unit's memory, page by page, each as the
    /// unit answers. `*done` is how many went before the first that did not; `translation`, which may
    /// be null, is what stopped it, or the last piece's.
    pub fn iommu_port_dma(
        port: *mut iommu_port,
        device: iommu_device,
        pasid: u32,
        iova: u64,
        bytes: *mut c_void,
        byte_count: usize,
        access: iommu_access,
        done: *mut usize,
        translation: *mut iommu_translation,
    ) -> iommu_status;
    /// A device's store to the interrupt address range, on its way to the processors. VT-d and AMD-Vi
    /// alone.
    pub fn iommu_unit_remap_interrupt(
        unit: *mut iommu_unit,
        device: iommu_device,
        address: u64,
        data: u32,
        interrupt: *mut iommu_interrupt,
    ) -> iommu_status;
}
