//! The declarations against `iommu.h`, as the C compiler of this machine reads it.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use iommu_sys::*;

/// What Rust makes of structures: sizes, and offsets of members.
macro_rules! layouts {
    ($($structure:ident { $($member:ident),* $(,)? })*) => {
        BTreeMap::from([$(
            (stringify!($structure).to_string(), size_of::<$structure>()),
            $((
                concat!(stringify!($structure), ".", stringify!($member)).to_string(),
                offset_of!($structure, $member),
            ),)*
        )*])
    };
}

fn header() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let given = std::env::var_os("IOMMU_HEADER").map(PathBuf::from);
    given.unwrap_or_else(|| root.join("Sources/CIOMMU/include/iommu.h"))
}

/// The header without comments.
fn text() -> String {
    let mut rest = std::fs::read_to_string(header()).expect("the header");
    let mut found = String::new();
    while let Some(start) = rest.find("/*") {
        found.push_str(&rest[..start]);
        let end = rest[start..].find("*/").expect("an end of the comment");
        rest = rest[start + end + 2..].to_string();
    }
    found + &rest
}

fn declared() -> BTreeMap<String, usize> {
    layouts! {
        iommu_range { address, size }
        iommu_ram { address, bytes, size }
        iommu_memory_calls { size, context, ranges, range_count, read, write, compare_exchange, release, is_dump, reserved }
        iommu_vtd_registers { size, base, root_table_address, capability, extended_capability, interrupt_table_address, global_status, host_address_width, segment, reserved }
        iommu_amdvi_registers { size, base, device_table_base, control, extended_features, segment, reserved }
        iommu_calgary_bridge { first_bus, last_bus, reserved, table_address, configuration, reserved2 }
        iommu_calgary_registers { size, base, bridges, bridge_count, is_calioc2, reserved }
        iommu_gart_registers { size, requester, reserved, aperture_control, aperture_base, table_base }
        iommu_translation { size, kind, hardware, physical, byte_count, fault, is_recorded, is_unanswered, detail }
        iommu_walk_step { size, name, fields, meaning, specification, address, index, level, word_count, words }
        iommu_mapping { size, owner, iova, physical, byte_count, can_read, can_write, same_as, is_pass_through, reserved }
        iommu_candidate { size, kind, reasons, address, byte_count, score, is_certain }
        iommu_verdict { size, rule, outcome, statement, findings }
        iommu_vtd_options { size, capability, extended_capability, table_range, is_scalable, levels, pasid_bits, host_address_width, segment, reserved }
        iommu_amdvi_options { size, extended_features, table_range, last_bus, pasid_bits, segment, reserved }
        iommu_calgary_options { size, table_range, table_size, bridges, bridge_count, is_calioc2, reserved }
        iommu_gart_options { size, table_range, base, order, reserved }
        iommu_unit_options { size, model, capability, extended_capability, interrupt, context, has_no_caches, node_count, bridges, bridge_count }
        iommu_interrupt { size, kind, vector, destination, fault, reserved }
    }
}

#[test]
fn structures_have_the_sizes_and_offsets_of_c() {
    let ours = declared();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = folder.join("layout.c");
    let program = folder.join("layout");
    let mut lines = String::from("#include <stdio.h>\n#include \"iommu.h\"\nint main(void) {\n");
    for name in ours.keys() {
        lines += &match name.split_once('.') {
            None => format!("printf(\"{name} %zu\\n\", sizeof({name}));\n"),
            Some((structure, member)) => {
                format!("printf(\"{name} %zu\\n\", offsetof({structure}, {member}));\n")
            }
        };
    }
    std::fs::write(&source, lines + "}\n").expect("the source");
    let status = Command::new("cc")
        .arg("-I")
        .arg(header().parent().expect("a folder"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a C compiler");
    assert!(status.success());
    let told = Command::new(&program).output().expect("the program").stdout;
    let theirs: BTreeMap<String, usize> = String::from_utf8(told)
        .expect("text")
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').expect("a name and a number");
            (name.to_string(), value.parse().expect("a number"))
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_structure_and_function_of_the_header_is_here() {
    let header = text();
    let ours = declared();
    let sources = include_str!("../src/lib.rs");
    let mut structures = 0;
    for line in header.lines() {
        if let Some(rest) = line.strip_prefix("typedef struct ") {
            if let Some(name) = rest.strip_suffix(" {") {
                assert!(ours.contains_key(name), "{name}");
                structures += 1;
            }
        }
    }
    assert_eq!(
        structures,
        ours.keys().filter(|name| !name.contains('.')).count()
    );
    let mut functions = 0;
    for line in header
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '}']))
    {
        let Some(open) = line.find('(') else { continue };
        let name = line[..open].rsplit([' ', '*']).next().expect("a name");
        if name.starts_with("iommu_") && !line.starts_with("static") {
            assert!(sources.contains(&format!("pub fn {name}(")), "{name}");
            functions += 1;
        }
    }
    assert_eq!(functions, sources.matches("    pub fn iommu_").count());
}

#[test]
fn the_library_is_of_this_abi_and_version() {
    unsafe {
        assert_eq!(iommu_abi_version(), IOMMU_ABI_VERSION);
        let version = std::ffi::CStr::from_ptr(iommu_version());
        assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_is_wrong_is_an_error_with_words() {
    unsafe {
        let mut memory = std::ptr::null_mut();
        assert_eq!(iommu_memory_create(0, &mut memory), IOMMU_ERROR_MEMORY);
        assert!(memory.is_null());
        assert!(!std::ffi::CStr::from_ptr(iommu_last_error()).is_empty());
        assert_eq!(iommu_memory_check(std::ptr::null_mut()), IOMMU_ERROR_HANDLE);
        let mut device = 0;
        assert_eq!(
            iommu_parse_device(c"0001:3a:1f.7".as_ptr(), &mut device),
            IOMMU_OK
        );
        assert_eq!(device, iommu_pci(1, 0x3a, 0x1f, 7));
        assert!(!iommu_is_memory(IOMMU_NO_ANSWER));
    }
}

extern "C" fn count(step: *const iommu_walk_step, context: *mut core::ffi::c_void) -> i32 {
    unsafe {
        assert!((*step).size >= size_of::<iommu_walk_step>());
        *(context as *mut usize) += 1;
    }
    0
}

#[test]
fn callbacks_are_called() {
    unsafe {
        let (mut memory, mut tables, mut machine) = (
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
        assert_eq!(iommu_memory_create(1 << 20, &mut memory), IOMMU_OK);
        let options: iommu_vtd_options = zeroed();
        assert_eq!(
            iommu_tables_create_vtd(memory, &options, &mut tables),
            IOMMU_OK
        );
        let device = iommu_pci(0, 0, 3, 0);
        let (all, none) = (IOMMU_READ_WRITE, IOMMU_NO_PASID);
        assert_eq!(
            iommu_tables_map(tables, device, none, 0x1000, 0x8000, 0x1000, all),
            IOMMU_OK
        );
        assert_eq!(iommu_tables_machine(tables, &mut machine), IOMMU_OK);
        let mut steps = 0usize;
        let mut end: iommu_translation = zeroed();
        let status = iommu_walk(
            machine,
            memory,
            device,
            none,
            0x1040,
            IOMMU_READ,
            Some(count),
            (&mut steps as *mut usize).cast(),
            &mut end,
        );
        assert_eq!((status, steps, end.physical), (IOMMU_OK, 6, 0x8040));
        assert_eq!(iommu_machine_free(machine), IOMMU_OK);
        assert_eq!(iommu_tables_free(tables), IOMMU_OK);
        assert_eq!(iommu_memory_free(memory), IOMMU_OK);
    }
}
