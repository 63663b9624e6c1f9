//! VT-d tables in memory of this program, and requests through them.

use std::ffi::CStr;
use std::ptr::null_mut;

use iommu_sys::*;

/// Why a call failed, in the library's words.
fn check(status: iommu_status) -> Result<(), String> {
    if status == IOMMU_OK {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(iommu_last_error()) };
    Err(text.to_string_lossy().into_owned())
}

/// 1 MiB of RAM, at a multiple of 4 KiB as the library wants it.
#[repr(C, align(4096))]
struct Ram([u8; 1 << 20]);

fn main() -> Result<(), String> {
    if unsafe { iommu_abi_version() } != IOMMU_ABI_VERSION {
        return Err("the library has another ABI".into());
    }
    let mut ram = Box::new(Ram([0; 1 << 20]));
    let piece = iommu_ram {
        address: 0,
        bytes: ram.0.as_mut_ptr().cast(),
        size: ram.0.len() as u64,
    };
    let device = iommu_pci(0, 0, 3, 0);
    unsafe {
        let mut memory = null_mut();
        check(iommu_memory_adopt(&piece, 1, None, null_mut(), &mut memory))?;
        let mut tables = null_mut();
        check(iommu_tables_create_vtd(
            memory,
            std::ptr::null(),
            &mut tables,
        ))?;
        check(iommu_tables_map(
            tables,
            device,
            IOMMU_NO_PASID,
            0xffff_e000,
            0x8000,
            0x2000,
            IOMMU_READ_WRITE,
        ))?;

        let mut machine = null_mut();
        check(iommu_tables_machine(tables, &mut machine))?;
        let mut translator = null_mut();
        check(iommu_translator_create(
            machine,
            memory,
            device,
            IOMMU_NO_PASID,
            &mut translator,
        ))?;

        let iovas = [0xffff_e040, 0xffff_f040, 0x1000];
        let mut answers = [0; 3];
        check(iommu_translate_batch(
            translator,
            iovas.as_ptr(),
            iovas.len(),
            IOMMU_WRITE,
            answers.as_mut_ptr(),
        ))?;
        for (iova, answer) in iovas.iter().zip(answers) {
            if iommu_is_memory(answer) {
                println!("{iova:#x} -> {answer:#x}");
                continue;
            }
            let mut translation = zeroed();
            check(iommu_answer(answer, &mut translation))?;
            let text = CStr::from_ptr(iommu_translation_text(&translation));
            println!("{iova:#x}: {}", text.to_string_lossy());
        }

        // A handle that was freed is an error, and no more.
        check(iommu_translator_free(translator))?;
        assert_eq!(
            iommu_translator_free(translator),
            IOMMU_ERROR_HANDLE,
            "freed twice"
        );
        check(iommu_machine_free(machine))?;
        check(iommu_tables_free(tables))?;
        check(iommu_memory_free(memory))?;
    }
    Ok(())
}
