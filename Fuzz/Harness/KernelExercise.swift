import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMULinux

/// A kernel whose image lies at physical 0, and whose page tables are not there: addresses from
/// 0xffffffff80000000 on.
private enum MadeKernel {
  static let lines = """
    OSRELEASE=6.1.0-fuzz
    PAGESIZE=4096
    SYMBOL(swapper_pg_dir)=ffffffffb0000000
    SYMBOL(_stext)=ffffffff81000000
    NUMBER(phys_base)=0

    """

  static func opened(_ lines: String, _ memory: [UInt8]) -> LinuxKernel? {
    try? LinuxKernel(
      VMCoreInfo(Array((Self.lines + lines).utf8)), in: ByteMemory(bytes: memory))
  }
}

/// Reads bytes up to a zero as VMCOREINFO, and follows it into the memory behind them.
enum VMCoreInfoExercise {
  static func run(_ bytes: [UInt8]) {
    let text = bytes.prefix { $0 != 0 }
    let info = VMCoreInfo(text)
    let memory = ByteMemory(bytes: SparseBytes.expanded(bytes.dropFirst(text.count + 1)))
    for entry in info.entries.prefix(64) {
      let inner = String(entry.key.drop { $0 != "(" }.dropFirst().prefix { $0 != ")" })
      _ = (
        info.symbol(inner), info.number(inner), info.offset(inner), info.size(inner),
        info.length(inner)
      )
    }
    for found in VMCoreInfoSearch(in: memory).found {
      require(found.info.symbol("_stext") != nil, "a text that is found is one")
    }
    do {
      let kernel = try LinuxKernel(info, in: memory)
      _ = kernel.isBorneOut
      follow(kernel, memory)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
  }

  private static func follow(_ kernel: LinuxKernel, _ memory: ByteMemory) {
    for address in [0xffff_ffff_8100_0000, 0xffff_8880_0000_0000, 0xffff_8000_8000_0000, .max]
      as [UInt64]
    {
      _ = try? kernel.memory.quadword(at: address)
    }
    let report = KernelReport(kernel, role: .old, listsNumbers: true, in: memory)
    var text = ""
    report.write(to: &text)
    Output.check(text: text)
    Output.check(encoded: report)
  }
}

/// Reads memory as a table of symbols, in the encoding that the first byte says.
enum KallsymsExercise {
  static func run(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    var lines = """
      SYMBOL(kallsyms_num_syms)=ffffffff80000000
      SYMBOL(kallsyms_token_index)=ffffffff80000010
      SYMBOL(kallsyms_token_table)=ffffffff80000400
      SYMBOL(kallsyms_names)=ffffffff80001000

      """
    if first & 1 != 0 {
      lines += "SYMBOL(kallsyms_addresses)=ffffffff80003000\n"
    } else {
      lines += "SYMBOL(kallsyms_offsets)=ffffffff80003000\n"
    }
    if first & 2 != 0 { lines += "SYMBOL(kallsyms_relative_base)=ffffffff80000008\n" }
    guard let kernel = MadeKernel.opened(lines, SparseBytes.expanded(bytes.dropFirst())) else {
      return
    }
    do {
      let symbols = try kernel.symbols
      require(
        symbols.addresses(of: "_stext").contains(0xffff_ffff_8100_0000), "_stext is where it is")
      for number in 0..<min(symbols.count, 64) {
        guard let symbol = symbols.symbol(number), let address = symbol.address else { continue }
        require(
          String(decoding: symbol.name.utf8, as: UTF8.self).utf8.contains(0xef)
            || symbols.addresses(of: symbol.name).contains(address),
          "a symbol is found by its name")
      }
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
  }
}

/// Reads bytes as the types of a kernel, and what is behind them as those of a module.
enum BTFExercise {
  private static let names = ["list_head", "device", "a", "b", "next", "iova_domain", ""]

  static func run(_ bytes: [UInt8]) {
    guard bytes.count > 2 else { return }
    let cut = min(bytes.count, 2 + (Int(bytes[0]) | Int(bytes[1]) << 8))
    guard let kernel = made(Array(bytes[2..<cut])) else { return }
    ask(kernel)
    var rest = Array(bytes[cut...])
    head(&rest)
    if let module = try? BTF(rest, of: kernel) {
      require(module.firstID == kernel.firstID + UInt32(kernel.count), "a module's types go on")
      ask(module)
    }
  }

  private static func made(_ bytes: [UInt8]) -> BTF? {
    var bytes = bytes
    head(&bytes)
    do {
      return try BTF(bytes)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
      return nil
    }
  }

  /// Magic, version and length that make it past the first look.
  private static func head(_ bytes: inout [UInt8]) {
    guard bytes.count >= 24 else { return }
    bytes.replaceSubrange(0..<8, with: [0x9f, 0xeb, 1, 0, 24, 0, 0, 0])
  }

  private static func ask(_ types: BTF) {
    for name in names {
      for type in types.structures(named: name).prefix(8) {
        require(types.name(of: type) == name, "a type is found by its name")
      }
    }
    for type in 0..<types.firstID + UInt32(min(types.count, 256)) {
      _ = (types.kind(of: type), types.byteCount(of: type), types.elementCount(of: type))
      for path in names + ["a.b", "next.next"] {
        guard let member = try? types.member(path, of: type), let bits = member.bitCount else {
          continue
        }
        require(1...255 ~= bits, "a bit field has bits")
      }
    }
  }
}

/// Reads memory as the log of a kernel: a ring, records, or characters, as the first byte says.
enum PrintkExercise {
  fileprivate static let lines = [
    """
    SYMBOL(prb)=ffffffff80000000
    OFFSET(printk_ringbuffer.desc_ring)=0
    OFFSET(printk_ringbuffer.text_data_ring)=48
    OFFSET(prb_desc_ring.count_bits)=0
    OFFSET(prb_desc_ring.descs)=8
    OFFSET(prb_desc_ring.infos)=16
    OFFSET(prb_desc_ring.head_id)=24
    OFFSET(prb_desc_ring.tail_id)=32
    SIZE(prb_desc)=24
    OFFSET(prb_desc.state_var)=0
    OFFSET(prb_desc.text_blk_lpos)=8
    OFFSET(prb_data_blk_lpos.begin)=0
    OFFSET(prb_data_blk_lpos.next)=8
    SIZE(printk_info)=88
    OFFSET(printk_info.seq)=0
    OFFSET(printk_info.ts_nsec)=8
    OFFSET(printk_info.text_len)=16
    OFFSET(printk_info.caller_id)=20
    OFFSET(printk_info.dev_info)=24
    OFFSET(dev_printk_info.subsystem)=0
    LENGTH(printk_info_subsystem)=16
    OFFSET(dev_printk_info.device)=16
    LENGTH(printk_info_device)=48
    OFFSET(prb_data_ring.size_bits)=0
    OFFSET(prb_data_ring.data)=8

    """,
    """
    SYMBOL(log_buf)=ffffffff80000000
    SYMBOL(log_buf_len)=ffffffff80000008
    SYMBOL(log_first_idx)=ffffffff80000010
    SYMBOL(log_next_idx)=ffffffff80000018
    SIZE(printk_log)=16
    OFFSET(printk_log.ts_nsec)=0
    OFFSET(printk_log.len)=8
    OFFSET(printk_log.text_len)=10
    OFFSET(printk_log.dict_len)=12

    """,
    """
    SYMBOL(log_buf)=ffffffff80000000
    SYMBOL(log_buf_len)=ffffffff80000008
    SYMBOL(log_end)=ffffffff80000010
    SYMBOL(logged_chars)=ffffffff80000018

    """,
  ]

  static func run(_ bytes: [UInt8]) {
    guard let first = bytes.first,
      let kernel = MadeKernel.opened(
        lines[Int(first) % lines.count], SparseBytes.expanded(bytes.dropFirst()))
    else { return }
    read(kernel)
  }

  static func read(_ kernel: LinuxKernel) {
    do {
      let log = try kernel.log()
      var text = ""
      for record in log.records.prefix(4096) {
        require(record.level ?? 0 < 8, "a level is one of eight")
        text += record.text.visible + "\n"
      }
      for problem in log.problems { text += problem + "\n" }
      Output.check(text: text)
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
  }
}

/// Changes numbers of VMCOREINFO (where structures have their members, how large they are, where they and
/// pages lie) and reads what the lines describe: a log in each of its buffers, symbols, pages.
///
/// The first byte says which lines, the second how many of them are changed; each change has the number of
/// its line, what to make of it, and perhaps a number.
enum KernelNumbersExercise {
  private static let pages = """
    SYMBOL(vmemmap)=ffffffff80000000
    SIZE(page)=64
    OFFSET(page.flags)=0
    OFFSET(page._refcount)=52
    OFFSET(page._mapcount)=48
    OFFSET(page.private)=40
    OFFSET(page.compound_head)=8
    NUMBER(PG_lru)=4
    NUMBER(PG_slab)=9
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
    NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257

    """
  private static let symbols = """
    SYMBOL(kallsyms_num_syms)=ffffffff80000000
    SYMBOL(kallsyms_token_index)=ffffffff80000010
    SYMBOL(kallsyms_token_table)=ffffffff80000400
    SYMBOL(kallsyms_names)=ffffffff80001000
    SYMBOL(kallsyms_offsets)=ffffffff80003000
    SYMBOL(kallsyms_relative_base)=ffffffff80000008

    """
  private static let arm = """
    OSRELEASE=6.12.0-fuzz
    PAGESIZE=4096
    SYMBOL(swapper_pg_dir)=ffff800080001000
    SYMBOL(_stext)=ffff800080010000
    NUMBER(VA_BITS)=48
    NUMBER(kimage_voffset)=0xffff800080000000
    NUMBER(PHYS_OFFSET)=0
    NUMBER(TCR_EL1_T1SZ)=0x10
    SYMBOL(log_buf)=ffff800080000000
    SYMBOL(log_buf_len)=ffff800080000008
    SYMBOL(log_end)=ffff800080000010
    SYMBOL(logged_chars)=ffff800080000018

    """

  /// What breaks sums, products and shifts, and numbers next to it.
  private static let extremes: [UInt64] = [
    0, 1, 2, 3, 7, 8, 12, 31, 32, 62, 63, 64, 65, 255, 4095, 4096, 1 << 16, 1 << 20, 1 << 31,
    1 << 32, 1 << 47, 1 << 62, 1 << 63, .max, .max - 7, .max - 4095, 0xffff_ffff_8000_0000,
    0xffff_ffff_bfff_fff8, 0xffff_8880_0000_0000, 0xffff_8000_8000_0000, 0x7fff_ffff_ffff_ffff,
    0xffff_ffff,
  ]

  static func run(_ bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    let all =
      PrintkExercise.lines.map { MadeKernel.lines + $0 } + [
        MadeKernel.lines + pages, MadeKernel.lines + symbols, arm,
      ]
    var lines = all[reader.below(all.count)].split(separator: "\n").map(String.init)
    for _ in 0..<reader.below(16) {
      let index = reader.below(lines.count)
      lines[index] = changed(lines[index], &reader)
    }
    let text = lines.joined(separator: "\n") + "\n"
    let memory = ByteMemory(bytes: SparseBytes.expanded(reader.remainder()))
    guard let kernel = try? LinuxKernel(VMCoreInfo(Array(text.utf8)), in: memory) else { return }
    PrintkExercise.read(kernel)
    do {
      let pages = try KernelPages(kernel)
      for address in [0, 0x1000, 0x5000, 0x20_0000, 1 << 40, 1 << 52, .max] as [UInt64] {
        do {
          _ = try pages.use(of: PhysicalAddress(address))
        } catch {
          require(!"\(error)".isEmpty, "an error says what")
        }
      }
    } catch {
      require(!"\(error)".isEmpty, "an error says what")
    }
    guard let symbols = try? kernel.symbols else { return }
    for number in 0..<min(symbols.count, 64) { _ = symbols.symbol(number) }
  }

  /// A line with another number, or none, or none at all.
  private static func changed(_ line: String, _ reader: inout ByteReader) -> String {
    let how = reader.byte()
    guard let equals = line.firstIndex(of: "=") else { return line }
    let key = line[...equals]
    let old = line[line.index(after: equals)...]
    let isSymbol = key.hasPrefix("SYMBOL(")
    func told(_ value: UInt64) -> String {
      let digits = String(value, radix: 16)
      return key
        + (isSymbol ? digits : how & 0x80 == 0 ? "0x\(digits)" : "\(Int64(bitPattern: value))")
    }
    switch how & 7 {
    case 0: return ""
    case 1: return String(key)
    case 2: return told(UInt64(reader.byte()))
    case 3: return told(reader.wide())
    case 4: return told(extremes[reader.below(extremes.count)])
    case 5: return told(0 &- extremes[reader.below(extremes.count)])
    default:
      // A step from what it is, by few bytes or by a page's.
      let value = UInt64(isSymbol ? old : old.drop { $0 == "-" }, radix: isSymbol ? 16 : 10) ?? 0
      let step = UInt64(reader.byte())
      return told(how & 8 == 0 ? value &+ step : value &- step << 8)
    }
  }
}
