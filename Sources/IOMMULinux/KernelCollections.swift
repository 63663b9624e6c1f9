import IOMMUFormats

/// What was found of a list or a tree, and what ended it too early or left a part of it out.
public struct KernelCollection<Element> {
  public var elements: [Element] = []
  /// Empty when it was gone through to its end.
  public var problems: [KernelReadError] = []
}

/// The kernel's lists and trees. All are bounded: one that leads back into itself is told, and what was read
/// until then is there.
extension KernelTypes {
  private func isAffordable(_ what: @autoclosure () -> String, at address: UInt64) -> Bool {
    (try? spend(on: what(), at: address)) != nil
  }

  /// The structures of a list.
  ///
  /// - Parameters:
  ///   - head: Where the `list_head` is that is in no structure.
  ///   - name: The type of the structures.
  ///   - path: Their member that the list goes through.
  ///   - paths: Members that the type must have, where several types have the name.
  public func list(
    at head: UInt64, of name: String, through path: String, having paths: [String] = []
  ) throws(KernelReadError) -> KernelCollection<KernelObject> {
    let type = try type(name, having: paths)
    let offset = try field(path, of: type).offset
    let next = try field("next", of: try self.type("list_head")).offset
    var list = KernelCollection<KernelObject>()
    var seen: Set<UInt64> = []
    var place = head
    while true {
      do throws(KernelReadError) {
        place = try memory.quadword(at: place &+ next)
      } catch {
        list.problems.append(error)
        break
      }
      guard place != head else { break }
      // A list that was never made, as of a structure whose page holds zeros.
      guard place != 0 else {
        if !seen.isEmpty { list.problems.append(.null) }
        break
      }
      guard seen.insert(place).inserted, isAffordable("the list", at: head) else {
        list.problems.append(.endless("the list", address: head))
        break
      }
      list.elements.append(KernelObject(types: self, address: place &- offset, type: type))
    }
    return list
  }

  /// The structures of a red-black tree in order.
  ///
  /// A node that cannot be read takes its own branches with it, and no other.
  ///
  /// - Parameters:
  ///   - root: The first node, as `rb_root.rb_node` has it; 0 for an empty tree.
  ///   - name: The type of the structures.
  ///   - path: Their member that the tree goes through.
  public func tree(
    from root: UInt64, of name: String, through path: String
  ) throws(KernelReadError) -> KernelCollection<KernelObject> {
    let type = try type(name)
    let offset = try field(path, of: type).offset
    let node = try self.type("rb_node")
    let left = try field("rb_left", of: node).offset
    let right = try field("rb_right", of: node).offset
    var tree = KernelCollection<KernelObject>()
    var seen: Set<UInt64> = []
    var above: [UInt64] = []
    var place = root
    while place != 0 || !above.isEmpty {
      // As far down on the left as there is something that was not seen.
      while place != 0 {
        guard seen.insert(place).inserted, isAffordable("the tree", at: root) else {
          tree.problems.append(.endless("the tree", address: root))
          // A node that was met is left out; without means for any other, so is the rest.
          if !isAffordable("the tree", at: root) { return tree }
          break
        }
        above.append(place)
        place = branch(at: place &+ left, &tree.problems)
      }
      guard let last = above.popLast() else { break }
      tree.elements.append(KernelObject(types: self, address: last &- offset, type: type))
      place = branch(at: last &+ right, &tree.problems)
    }
    return tree
  }

  private func branch(at place: UInt64, _ problems: inout [KernelReadError]) -> UInt64 {
    do throws(KernelReadError) {
      return try memory.quadword(at: place)
    } catch {
      problems.append(error)
      return 0
    }
  }

  /// The pointers in an xarray with their indices, ascending.
  ///
  /// - Parameter array: The `struct xarray`.
  public func pointers(
    in array: KernelObject
  ) throws(KernelReadError) -> KernelCollection<(index: UInt64, pointer: UInt64)> {
    let all = try entries(in: array)
    return KernelCollection(
      elements: all.elements.filter { $0.entry & 3 == 0 }.map { ($0.index, $0.entry) },
      problems: all.problems)
  }

  /// The entries of an xarray with their indices, ascending: pointers, and values, whose bit 0 is 1.
  func entries(
    in array: KernelObject
  ) throws(KernelReadError) -> KernelCollection<(index: UInt64, entry: UInt64)> {
    var found = KernelCollection<(index: UInt64, entry: UInt64)>()
    var seen: Set<UInt64> = []
    try add(entry: try array.unsigned("xa_head"), at: 0, below: 64, &found, &seen)
    return found
  }

  /// An entry of an xarray: bits 1:0 are 2 in the pointer to a node, but for small numbers, which mean
  /// something inside.
  private func add(
    entry: UInt64, at index: UInt64, below shift: UInt64,
    _ found: inout KernelCollection<(index: UInt64, entry: UInt64)>, _ seen: inout Set<UInt64>
  ) throws(KernelReadError) {
    guard entry != 0 else { return }
    guard entry & 3 == 2 else {
      found.elements.append((index, entry))
      return
    }
    guard entry > 4096 else { return }
    let node = try object("xa_node", at: entry & ~3)
    guard seen.insert(node.address).inserted, isAffordable("the xarray", at: node.address) else {
      found.problems.append(.endless("the xarray", address: node.address))
      return
    }
    let slots = try field("slots", of: node.type)
    let count = min(btf.elementCount(of: slots.type) ?? 0, 64)
    let own: UInt64
    do throws(KernelReadError) {
      own = try node.unsigned("shift")
    } catch {
      found.problems.append(error)
      return
    }
    // Levels only get lower: the recursion is eleven deep at most.
    guard own < shift else {
      found.problems.append(.damaged("an xarray node of shift \(own) below one of shift \(shift)"))
      return
    }
    for slot in 0..<UInt64(count) {
      do throws(KernelReadError) {
        let entry = try memory.quadword(at: node.address &+ slots.offset &+ slot &* 8)
        try add(entry: entry, at: index &+ slot << own, below: own, &found, &seen)
      } catch {
        found.problems.append(error)
      }
    }
  }
}
