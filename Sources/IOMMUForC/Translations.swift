import CIOMMU
import IOMMUFormats
import IOMMUImages
import IOMMUTranslation
import Synchronization

extension iommu_translation {
  init(_ translation: Translation) {
    self.init()
    size = MemoryLayout<Self>.size
    fault = -1
    switch translation {
    case .mapped(let address, let byteCount):
      kind = iommu_answer_kind(IOMMU_MEMORY)
      physical = address.rawValue
      byte_count = byteCount
    case .interruptMessage: kind = iommu_answer_kind(IOMMU_INTERRUPT)
    case .fault(let fault):
      kind = iommu_answer_kind(IOMMU_FAULT)
      hardware = iommu_hardware(fault.scheme)
      self.fault = fault.number.map(Int32.init) ?? -1
      is_recorded = fault.isRecorded ? 1 : 0
      is_unanswered = fault.isUnanswered ? 1 : 0
      detail = Int32(fault.code)
    }
  }
}

@_cdecl("iommu_translation_text")
public func translationText(_ translation: UnsafePointer<iommu_translation>?) -> UnsafePointer<
  CChar
> {
  guard let translation, translation.pointee.kind == iommu_answer_kind(IOMMU_FAULT),
    FaultSchemes.all.indices ~= Int(translation.pointee.hardware),
    let code = UInt8(exactly: translation.pointee.detail)
  else { return constantText("") }
  let fault = Fault(
    scheme: UInt8(translation.pointee.hardware), code: code, isRecorded: false)
  return FaultTexts.text(of: fault)
}

/// Texts of faults that C was given: as many as there are numbers, kept for good.
private enum FaultTexts {
  /// The bytes of a text that is never freed.
  private struct Kept: @unchecked Sendable {
    // Sendable: nothing writes to the bytes again.
    var bytes: UnsafePointer<CChar>
  }

  private static let all = Mutex<[Fault: Kept]>([:])

  static func text(of fault: Fault) -> UnsafePointer<CChar> {
    all.withLock { texts in
      if let known = texts[fault] { return known.bytes }
      let text = fault.description.utf8CString
      let bytes = UnsafeMutablePointer<CChar>.allocate(capacity: text.count)
      for (index, byte) in text.enumerated() { (bytes + index).initialize(to: byte) }
      texts[fault] = Kept(bytes: bytes)
      return UnsafePointer(bytes)
    }
  }
}

@_cdecl("iommu_parse_device")
public func parseDevice(
  _ text: UnsafePointer<CChar>?, _ device: UnsafeMutablePointer<iommu_device>?
) -> iommu_status {
  call {
    let device = try require(device, "device")
    let text = try string(text, "text")
    do {
      device.pointee = try PCI.Function(text).number
    } catch {
      throw CallError.argument("'\(text.visible)': \(error)")
    }
  }
}

@_cdecl("iommu_answer")
public func answer(
  _ answer: UInt64, _ translation: UnsafeMutablePointer<iommu_translation>?
) -> iommu_status {
  call {
    let packed = PackedTranslation(rawValue: answer)
    guard answer >> 63 != 0 || answer >> 52 == 0, let found = packed.translation else {
      throw CallError.argument(
        packed == .addressTooWide
          ? "the address is 2^52 or more, for which a word has no room: ask iommu_translate_request()"
          : "\(hexadecimal(answer)) is no answer of iommu_translate()")
    }
    try store(iommu_translation(found), into: translation)
  }
}

func store(
  _ value: iommu_translation, into place: UnsafeMutablePointer<iommu_translation>?
) throws {
  try store(value, to: place, "iommu_translation")
}

// MARK: Translators

/// The tables of a device in memory of one class.
final class CTranslator<Memory: PhysicalMemory> {
  let translator: Translator<Memory>
  /// What the translator reads from, for what has to be asked of it.
  let memory: CMemory

  init(_ translator: Translator<Memory>, in memory: CMemory) {
    self.translator = translator
    self.memory = memory
  }

  func translate(
    _ iovas: UnsafePointer<UInt64>, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<UInt64>
  ) {
    // IOVA and PackedTranslation are one UInt64 each.
    iovas.withMemoryRebound(to: IOVA.self, capacity: count) { iovas in
      answers.withMemoryRebound(to: PackedTranslation.self, capacity: count) { answers in
        let source = Span(_unsafeStart: iovas, count: count)
        var target = MutableSpan(_unsafeStart: answers, count: count)
        translator.translate(source, access, into: &target)
      }
    }
  }

  func translate(_ iova: IOVA, byteCount: UInt64, _ access: Access) -> Translation {
    translator.handle.translate(
      iova, byteCount: byteCount, access: access, in: translator.memory)
  }
}

extension CTranslator: Handled {
  static var kind: HandleKind {
    if Memory.self == FlatMemory.self { return .flatTranslator }
    return Memory.self == CalledMemory.self ? .calledTranslator : .imageTranslator
  }
}

@_cdecl("iommu_translator_create")
public func createTranslator(
  _ machine: Handle?, _ memory: Handle?, _ device: iommu_device, _ pasid: UInt32,
  _ translator: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  call {
    let place = try require(translator, "translator")
    let machine = try object(machine, as: CMachine.self).machine
    let memory = try object(memory, as: CMemory.self)
    let device = try PCI.Function(device)
    let pasid = try PASID.given(pasid)
    func make<Memory: PhysicalMemory>(_ content: Memory) throws -> CTranslator<Memory> {
      let handle = try machine.serving(device)
        .resolve(device.requester, pasid: pasid, in: content)
      return CTranslator(Translator(handle, in: content), in: memory)
    }
    switch memory.content {
    case .flat(let content): place.pointee = try makeHandle(try make(content))
    case .called(let content): place.pointee = try makeHandle(try make(content))
    case .image(let content): place.pointee = try makeHandle(try make(content))
    }
  }
}

@_cdecl("iommu_translator_free")
public func freeTranslator(_ translator: Handle?) -> iommu_status {
  free(translator, .flatTranslator, .calledTranslator, .imageTranslator)
}

/// What is asked of a translator of any memory.
private func withTranslator(
  _ handle: Handle?, flat: (CTranslator<FlatMemory>) throws -> Void,
  called: (CTranslator<CalledMemory>) throws -> Void,
  image: (CTranslator<MemoryImage>) throws -> Void
) throws {
  switch HandleKind(rawValue: handle_kind(bits(handle))) {
  case .calledTranslator: try called(try object(handle))
  case .imageTranslator: try image(try object(handle))
  default: try flat(try object(handle))
  }
}

// By its symbol: a pointer and two numbers come in the same registers from Swift and from C, on x86-64 and on
// arm64, and the answer goes back in the same one. With @_cdecl C would call a function that goes on to this one.
@_silgen_name("iommu_translate")
public func translate(_ handle: Handle?, _ iova: UInt64, _ access: iommu_access) -> UInt64 {
  // The common memory first: a look at the handle's place, and the translator's own call.
  if let reference = handle_flat_translator(bits(handle)) {
    let translator = Unmanaged<CTranslator<FlatMemory>>.fromOpaque(reference)
    // One way for each access, so that neither is chosen on the way.
    if access == IOMMU_READ {
      return translator._withUnsafeGuaranteedRef {
        $0.translator.translate(IOVA(iova), .read).rawValue
      }
    }
    if access == IOMMU_WRITE {
      return translator._withUnsafeGuaranteedRef {
        $0.translator.translate(IOVA(iova), .write).rawValue
      }
    }
  }
  return translateElsewhere(handle, iova, access)
}

@inline(never)
private func translateElsewhere(
  _ handle: Handle?, _ iova: UInt64, _ access: iommu_access
) -> UInt64 {
  var answer = UInt64.max
  let iova = IOVA(iova)
  _ = call {
    let access = try Access(access)
    try withTranslator(
      handle, flat: { answer = $0.translator.translate(iova, access).rawValue },
      called: { answer = $0.translator.translate(iova, access).rawValue },
      image: { answer = $0.translator.translate(iova, access).rawValue })
  }
  return answer
}

@_cdecl("iommu_translate_batch")
public func translateBatch(
  _ handle: Handle?, _ iovas: UnsafePointer<UInt64>?, _ count: Int, _ access: iommu_access,
  _ answers: UnsafeMutablePointer<UInt64>?
) -> iommu_status {
  call {
    let access = try Access(access)
    try withBatch(iovas, answers, count) { iovas, answers in
      try withTranslator(
        handle, flat: { $0.translate(iovas, count: count, access, into: answers) },
        called: { $0.translate(iovas, count: count, access, into: answers) },
        image: { $0.translate(iovas, count: count, access, into: answers) })
    } orNone: {
      try withTranslator(handle, flat: { _ in }, called: { _ in }, image: { _ in })
    }
  }
}

/// The arrays of a batch.
///
/// - Parameters:
///   - body: Is given both.
///   - orNone: Is called for an empty batch, in which either may be null.
func withBatch(
  _ iovas: UnsafePointer<UInt64>?, _ answers: UnsafeMutablePointer<UInt64>?, _ count: Int,
  _ body: (UnsafePointer<UInt64>, UnsafeMutablePointer<UInt64>) throws -> Void,
  orNone: () throws -> Void
) throws {
  guard count != 0 else { return try orNone() }
  let source = try elements(iovas, count, "iovas")
  let target = try elements(UnsafePointer(answers), count, "answers")
  guard let iovas = source.baseAddress, let answers, let targetStart = target.baseAddress else {
    return
  }
  guard UInt(bitPattern: iovas) % 8 == 0, UInt(bitPattern: answers) % 8 == 0 else {
    throw CallError.argument("iovas and answers lie at multiples of 8")
  }
  guard UnsafePointer(iovas) + count <= targetStart || targetStart + count <= iovas else {
    throw CallError.argument("iovas and answers overlap: give two arrays")
  }
  try body(iovas, answers)
}

@_cdecl("iommu_translate_request")
public func translateRequest(
  _ handle: Handle?, _ iova: UInt64, _ byteCount: UInt64, _ access: iommu_access,
  _ translation: UnsafeMutablePointer<iommu_translation>?
) -> iommu_status {
  call {
    let access = try Access(access)
    let byteCount = try requestByteCount(byteCount)
    let iova = IOVA(iova)
    var found = Translation.interruptMessage
    var memory: CMemory?
    try withTranslator(
      handle,
      flat: {
        found = $0.translate(iova, byteCount: byteCount, access)
        memory = $0.memory
      },
      called: {
        found = $0.translate(iova, byteCount: byteCount, access)
        memory = $0.memory
      },
      image: {
        found = $0.translate(iova, byteCount: byteCount, access)
        memory = $0.memory
      })
    try memory?.check()
    try store(iommu_translation(found), into: translation)
  }
}

/// - Throws: For a request of no bytes.
func requestByteCount(_ byteCount: UInt64) throws -> UInt64 {
  guard byteCount > 0 else {
    throw CallError.argument("byte_count is 0: a request has at least one byte")
  }
  return byteCount
}
