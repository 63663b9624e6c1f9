import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

// The hot loops, each a function of its own that can be found in the machine code by its name.

/// One call each, not inlined.
@inline(never)
public func hotTranslateCall(
  _ translator: borrowing Translator<FlatMemory>, _ address: UInt64
) -> UInt64 {
  translator.translate(IOVA(address), .read).rawValue
}

/// Calls it for each address, in the loop that the C reference has.
@inline(never)
func callEach(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  guard let source = addresses.baseAddress, let target = answers.baseAddress else { return }
  var index = 0
  while index < addresses.count {
    target[index] = PackedTranslation(
      rawValue: hotTranslateCall(translator, source[index].rawValue))
    index &+= 1
  }
}

/// One call each, inlined into the loop.
@inline(never)
public func hotTranslateInlined(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for index in addresses.indices {
    answers[index] = translator.translate(addresses[index], .read)
  }
}

@inline(never)
public func hotTranslateBatch(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  var span = answers.mutableSpan
  translator.translate(addresses.span, .read, into: &span)
}

@inline(never)
public func hotTranslateBatchRegions(
  _ translator: borrowing Translator<FlatMemory>, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>, _ cache: RegionCache
) {
  var span = answers.mutableSpan
  translator.translate(addresses.span, .read, into: &span, through: cache)
}

/// One packed call of a port each.
@inline(never)
public func hotTranslatePort(
  _ port: TranslationPort, _ requester: Requester, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for index in addresses.indices {
    answers[index] = port.translate(addresses[index], .read, of: requester)
  }
}

@inline(never)
public func hotTranslatePortBatch(
  _ port: TranslationPort, _ requester: Requester, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  var span = answers.mutableSpan
  port.translate(addresses.span, .read, of: requester, into: &span)
}

/// A request of 64 KiB for each sixteen addresses, the first bytes of pages in a row.
@inline(never)
public func hotTranslateDiskRequests(
  _ port: TranslationPort, _ requester: Requester, _ addresses: UnsafeBufferPointer<IOVA>,
  _ answers: UnsafeMutableBufferPointer<PackedTranslation>
) {
  for first in stride(from: 0, to: addresses.count, by: 16) {
    var span = UnsafeMutableBufferPointer(rebasing: answers[first..<first + 16]).mutableSpan
    port.translate(
      addresses[first], byteCount: 16 << 12, .read, of: requester, into: &span)
  }
}
