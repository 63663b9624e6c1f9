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
