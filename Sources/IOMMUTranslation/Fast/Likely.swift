/// Says that a condition nearly always holds, so that the code for it is laid out in one line.
///
/// Without the hint LLVM joins neighbouring tests into flag arithmetic, which costs a third of a hot
/// walk. The one place that knows the underscored name.
@inlinable @inline(__always)
package func likely(_ condition: Bool) -> Bool { _fastPath(condition) }
