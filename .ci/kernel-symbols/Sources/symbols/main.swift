import IOMMUImages
import IOMMULinux

// The symbols of the kernel in a dump, as /proc/kallsyms has them for root: address, type, name.
let image = try MemoryImage(path: CommandLine.arguments[1])
for (role, kernel) in try LinuxKernels(in: image).all where role == .old {
  let symbols = try kernel.symbols
  for number in 0..<symbols.count {
    guard let symbol = symbols.symbol(number), let address = symbol.address else { continue }
    let digits = String(address, radix: 16)
    print(String(repeating: "0", count: 16 - digits.count) + digits, symbol.type, symbol.name)
  }
}
