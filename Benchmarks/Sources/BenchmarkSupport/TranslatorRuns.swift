import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

/// Translations of one run, by Swift or by C: what a contender does to addresses.
public typealias Run = (UnsafeBufferPointer<IOVA>, UnsafeMutableBufferPointer<PackedTranslation>) ->
  Void

/// Every way through a translator, as a caller that keeps one has it.
public final class TranslatorRuns {
  private let translator: Translator<FlatMemory>
  /// Made when a run first wants it.
  private lazy var cache = RegionCache()

  public init(_ translator: Translator<FlatMemory>) { self.translator = translator }

  public var calls: Run { { [translator] in callEach(translator, $0, $1) } }
  public var inlined: Run { { [translator] in hotTranslateInlined(translator, $0, $1) } }
  public var batch: Run { { [translator] in hotTranslateBatch(translator, $0, $1) } }

  public var batchRegions: Run {
    { [translator, cache] in hotTranslateBatchRegions(translator, $0, $1, cache) }
  }
}
