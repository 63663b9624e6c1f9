"""The C ABI of libiommu, as ``iommu.h`` has it, declared for ctypes.

Structures and functions are in the header's order; a test reads the header and compares.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, List, Tuple

from .errors import LibraryError

ABI_VERSION = 1
NO_PASID = 0xFFFFFFFF


class Range(Structure):
    _fields_ = [("address", c_uint64), ("size", c_uint64)]


class Ram(Structure):
    _fields_ = [("address", c_uint64), ("bytes", c_void_p), ("size", c_uint64)]


READ = CFUNCTYPE(c_size_t, c_void_p, c_uint64, c_void_p, c_size_t)
COMPARE_EXCHANGE = CFUNCTYPE(c_int32, c_void_p, c_uint64, POINTER(c_uint64), c_uint64)
RELEASE = CFUNCTYPE(None, c_void_p)


class MemoryCalls(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("context", c_void_p),
        ("ranges", POINTER(Range)),
        ("range_count", c_size_t),
        ("read", READ),
        # The same arguments: the bytes are the library's in one, the caller's in the other.
        ("write", READ),
        ("compare_exchange", COMPARE_EXCHANGE),
        ("release", RELEASE),
        ("is_dump", c_int32),
        ("reserved", c_int32),
    ]


class VTdRegisters(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("base", c_uint64),
        ("root_table_address", c_uint64),
        ("capability", c_uint64),
        ("extended_capability", c_uint64),
        ("interrupt_table_address", c_uint64),
        ("global_status", c_uint32),
        ("host_address_width", c_uint32),
        ("segment", c_uint32),
        ("reserved", c_uint32),
    ]


class AMDViRegisters(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("base", c_uint64),
        ("device_table_base", c_uint64),
        ("control", c_uint64),
        ("extended_features", c_uint64),
        ("segment", c_uint32),
        ("reserved", c_uint32),
    ]


class CalgaryBridge(Structure):
    _fields_ = [
        ("first_bus", c_uint8),
        ("last_bus", c_uint8),
        ("reserved", c_uint8 * 6),
        ("table_address", c_uint64),
        ("configuration", c_uint32),
        ("reserved2", c_uint32),
    ]


class CalgaryRegisters(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("base", c_uint64),
        ("bridges", POINTER(CalgaryBridge)),
        ("bridge_count", c_size_t),
        ("is_calioc2", c_int32),
        ("reserved", c_int32),
    ]


class GARTRegisters(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("requester", c_uint16),
        ("reserved", c_uint16),
        ("aperture_control", c_uint32),
        ("aperture_base", c_uint32),
        ("table_base", c_uint32),
    ]


class Translation(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_int32),
        ("hardware", c_int32),
        ("physical", c_uint64),
        ("byte_count", c_uint64),
        ("fault", c_int32),
        ("is_recorded", c_int32),
        ("is_unanswered", c_int32),
        ("detail", c_int32),
    ]


class WalkStep(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("fields", c_char_p),
        ("meaning", c_char_p),
        ("specification", c_char_p),
        ("address", c_uint64),
        ("index", c_uint64),
        ("level", c_int32),
        ("word_count", c_uint32),
        ("words", c_uint64 * 8),
    ]


class Mapping(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("owner", c_char_p),
        ("iova", c_uint64),
        ("physical", c_uint64),
        ("byte_count", c_uint64),
        ("can_read", c_int32),
        ("can_write", c_int32),
        ("same_as", c_char_p),
        ("is_pass_through", c_int32),
        ("reserved", c_int32),
    ]


class Candidate(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_char_p),
        ("reasons", c_char_p),
        ("address", c_uint64),
        ("byte_count", c_uint64),
        ("score", c_int32),
        ("is_certain", c_int32),
    ]


class Verdict(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("rule", c_int32),
        ("outcome", c_int32),
        ("statement", c_char_p),
        ("findings", c_char_p),
    ]


class VTdOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("capability", c_uint64),
        ("extended_capability", c_uint64),
        ("table_range", Range),
        ("is_scalable", c_int32),
        ("levels", c_int32),
        ("pasid_bits", c_int32),
        ("host_address_width", c_uint32),
        ("segment", c_uint32),
        ("reserved", c_uint32),
    ]


class AMDViOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("extended_features", c_uint64),
        ("table_range", Range),
        ("last_bus", c_uint32),
        ("pasid_bits", c_int32),
        ("segment", c_uint32),
        ("reserved", c_uint32),
    ]


class CalgaryOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("table_range", Range),
        ("table_size", c_uint64),
        ("bridges", POINTER(CalgaryBridge)),
        ("bridge_count", c_size_t),
        ("is_calioc2", c_int32),
        ("reserved", c_int32),
    ]


class GARTOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("table_range", Range),
        ("base", c_uint64),
        ("order", c_int32),
        ("reserved", c_int32),
    ]


INTERRUPT = CFUNCTYPE(None, c_uint64, c_uint32, c_void_p)


class UnitOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("model", c_char_p),
        ("capability", c_uint64),
        ("extended_capability", c_uint64),
        ("interrupt", INTERRUPT),
        ("context", c_void_p),
        ("has_no_caches", c_int32),
        ("node_count", c_int32),
        ("bridges", POINTER(CalgaryBridge)),
        ("bridge_count", c_size_t),
    ]


class Interrupt(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_int32),
        ("vector", c_int32),
        ("destination", c_int64),
        ("fault", c_int32),
        ("reserved", c_int32),
    ]


STEP = CFUNCTYPE(c_int32, POINTER(WalkStep), c_void_p)
MAPPING = CFUNCTYPE(c_int32, POINTER(Mapping), c_void_p)
TEXT = CFUNCTYPE(c_int32, c_char_p, c_void_p)
CANDIDATE = CFUNCTYPE(c_int32, POINTER(Candidate), c_void_p)
VERDICT = CFUNCTYPE(c_int32, POINTER(Verdict), c_void_p)

_handle = c_void_p
_place = POINTER(c_void_p)
_count = POINTER(c_size_t)
_word = POINTER(c_uint64)
_translation = POINTER(Translation)

# Results and arguments, by name.
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "iommu_abi_version": (c_uint32, []),
    "iommu_version": (c_char_p, []),
    "iommu_last_error": (c_char_p, []),
    "iommu_status_text": (c_char_p, [c_int32]),
    "iommu_parse_device": (c_int32, [c_char_p, _word]),
    "iommu_memory_create": (c_int32, [c_uint64, _place]),
    "iommu_memory_adopt": (c_int32, [POINTER(Ram), c_size_t, RELEASE, c_void_p, _place]),
    "iommu_memory_create_with_calls": (c_int32, [POINTER(MemoryCalls), _place]),
    "iommu_memory_open": (c_int32, [POINTER(c_char_p), c_size_t, _place]),
    "iommu_memory_check": (c_int32, [_handle]),
    "iommu_memory_read": (c_int32, [_handle, c_uint64, c_void_p, c_size_t, _count]),
    "iommu_memory_write": (c_int32, [_handle, c_uint64, c_void_p, c_size_t, _count]),
    "iommu_memory_ranges": (c_int32, [_handle, POINTER(Range), c_size_t, _count]),
    "iommu_memory_free": (c_int32, [_handle]),
    "iommu_machine_create": (c_int32, [_place]),
    "iommu_machine_open": (c_int32, [c_char_p, _place]),
    "iommu_machine_find": (c_int32, [_handle, _place]),
    "iommu_machine_unit_count": (c_int32, [_handle, _count]),
    "iommu_machine_free": (c_int32, [_handle]),
    "iommu_machine_add_vtd": (c_int32, [_handle, POINTER(VTdRegisters)]),
    "iommu_machine_add_amdvi": (c_int32, [_handle, POINTER(AMDViRegisters)]),
    "iommu_machine_add_calgary": (c_int32, [_handle, POINTER(CalgaryRegisters)]),
    "iommu_machine_add_gart": (c_int32, [_handle, POINTER(GARTRegisters)]),
    "iommu_machine_set_crash_kernel": (c_int32, [_handle, POINTER(Range), c_size_t]),
    "iommu_translation_text": (c_char_p, [_translation]),
    "iommu_translator_create": (c_int32, [_handle, _handle, c_uint64, c_uint32, _place]),
    "iommu_translator_free": (c_int32, [_handle]),
    "iommu_translate": (c_uint64, [_handle, c_uint64, c_int32]),
    "iommu_translate_batch": (c_int32, [_handle, c_void_p, c_size_t, c_int32, c_void_p]),
    "iommu_translate_request": (c_int32, [_handle, c_uint64, c_uint64, c_int32, _translation]),
    "iommu_answer": (c_int32, [c_uint64, _translation]),
    "iommu_walk": (
        c_int32,
        [_handle, _handle, c_uint64, c_uint32, c_uint64, c_int32, STEP, c_void_p, _translation],
    ),
    "iommu_maps": (c_int32, [_handle, _handle, MAPPING, TEXT, c_void_p]),
    "iommu_find": (c_int32, [_handle, CANDIDATE, c_void_p]),
    "iommu_verify": (
        c_int32,
        [_handle, _handle, _word, c_size_t, VERDICT, c_void_p, POINTER(c_int32)],
    ),
    "iommu_tables_create_vtd": (c_int32, [_handle, POINTER(VTdOptions), _place]),
    "iommu_tables_create_amdvi": (c_int32, [_handle, POINTER(AMDViOptions), _place]),
    "iommu_tables_create_calgary": (c_int32, [_handle, POINTER(CalgaryOptions), _place]),
    "iommu_tables_create_gart": (c_int32, [_handle, POINTER(GARTOptions), _place]),
    "iommu_tables_free": (c_int32, [_handle]),
    "iommu_tables_map": (
        c_int32,
        [_handle, c_uint64, c_uint32, c_uint64, c_uint64, c_uint64, c_uint32],
    ),
    "iommu_tables_map_identity": (
        c_int32,
        [_handle, c_uint64, c_uint32, c_uint64, c_uint64, c_uint32],
    ),
    "iommu_tables_unmap": (c_int32, [_handle, c_uint64, c_uint32, c_uint64, c_uint64]),
    "iommu_tables_create_domain": (
        c_int32,
        [_handle, c_int32, c_int32, c_uint16, POINTER(c_uint16)],
    ),
    "iommu_tables_remove_domain": (c_int32, [_handle, c_uint16]),
    "iommu_tables_map_domain": (
        c_int32,
        [_handle, c_uint16, c_uint64, c_uint64, c_uint64, c_uint32],
    ),
    "iommu_tables_unmap_domain": (c_int32, [_handle, c_uint16, c_uint64, c_uint64]),
    "iommu_tables_bind": (c_int32, [_handle, c_uint64, c_uint32, c_uint16]),
    "iommu_tables_unbind": (c_int32, [_handle, c_uint64, c_uint32]),
    "iommu_tables_root": (c_int32, [_handle, _word]),
    "iommu_tables_machine": (c_int32, [_handle, _place]),
    "iommu_tables_page_count": (c_int32, [_handle, _count]),
    "iommu_unit_create": (c_int32, [_handle, c_int32, POINTER(UnitOptions), _place]),
    "iommu_unit_free": (c_int32, [_handle]),
    "iommu_unit_reset": (c_int32, [_handle]),
    "iommu_unit_window_size": (c_int32, [_handle, _word]),
    "iommu_unit_read": (c_int32, [_handle, c_uint64, c_uint32, _word]),
    "iommu_unit_write": (c_int32, [_handle, c_uint64, c_uint32, c_uint64]),
    "iommu_unit_read_configuration": (c_int32, [_handle, c_uint16, c_uint32, c_uint32, _word]),
    "iommu_unit_write_configuration": (
        c_int32,
        [_handle, c_uint16, c_uint32, c_uint32, c_uint64],
    ),
    "iommu_port_create": (c_int32, [_handle, _place]),
    "iommu_port_free": (c_int32, [_handle]),
    "iommu_port_translate": (
        c_int32,
        [_handle, c_uint64, c_uint32, c_uint64, c_uint64, c_int32, _translation],
    ),
    "iommu_port_translate_batch": (
        c_int32,
        [_handle, c_uint64, c_void_p, c_size_t, c_int32, c_void_p],
    ),
    "iommu_port_dma": (
        c_int32,
        [
            _handle,
            c_uint64,
            c_uint32,
            c_uint64,
            c_void_p,
            c_size_t,
            c_int32,
            _count,
            _translation,
        ],
    ),
    "iommu_unit_remap_interrupt": (
        c_int32,
        [_handle, c_uint64, c_uint64, c_uint32, POINTER(Interrupt)],
    ),
}


def library_path() -> str:
    """Where libiommu is looked for: what IOMMU_LIBRARY names, beside this file, then where the system has it."""
    named = os.environ.get("IOMMU_LIBRARY")
    if named:
        return named
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libiommu.so.1")
    return beside if os.path.exists(beside) else "libiommu.so.1"


def load(path: str) -> ctypes.CDLL:
    """Loads a library and declares its functions."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise LibraryError(
            f"libiommu cannot be loaded: {error}; `make install` installs it, or IOMMU_LIBRARY says where "
            "libiommu.so.1 is"
        ) from None
    for name, (result, arguments) in FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise LibraryError(
                f"{path} has no {name}: it is no libiommu, or one that is older than this package"
            ) from None
        function.restype = result
        function.argtypes = arguments
    version = library.iommu_abi_version()
    if version != ABI_VERSION:
        raise LibraryError(
            f"{path} has ABI version {version}, and this package is for {ABI_VERSION}: install both from one "
            "release"
        )
    return library


lib = load(library_path())
