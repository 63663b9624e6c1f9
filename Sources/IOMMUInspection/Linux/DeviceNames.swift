import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

/// What drivers the requesters of a machine have, as far as a dump's kernel says it.
///
/// Whoever prints a requester asks here. Where nothing is known, the requester is all that is printed.
public struct DeviceNames: Hashable, Sendable {
  private let drivers: [PCI.Function: String]

  /// Nobody says anything.
  public static let none = DeviceNames([])

  /// Of several kernels, the first that has a driver for a device names it.
  ///
  /// A requester that devices of different drivers use has no name: which of them sent a request, nothing
  /// tells.
  public init(_ kernels: [IOMMUState]) {
    var drivers: [PCI.Function: String] = [:]
    for kernel in kernels {
      var own: [PCI.Function: Set<String>] = [:]
      for device in kernel.devices {
        guard let requester = device.requester, let driver = device.driver, !driver.isEmpty else {
          continue
        }
        own[requester, default: []].insert(driver)
      }
      for (requester, names) in own where names.count == 1 && drivers[requester] == nil {
        drivers[requester] = names.first
      }
    }
    self.drivers = drivers
  }

  /// The driver's name as the dump has it; `nil` where it is not known.
  public subscript(device: PCI.Function) -> String? { drivers.isEmpty ? nil : drivers[device] }

  /// The same of whoever uses a table: of one requester only.
  public subscript(owner: TableOwner) -> String? {
    owner.requester.flatMap { self[$0] }
  }

  /// `00:03.0 e1000e`, `00:03.0` where the driver is not known, `bus:02`.
  public func text(_ owner: TableOwner) -> String { Self.text("\(owner)", self[owner]) }

  /// `00:03.0 e1000e`.
  public func text(_ device: PCI.Function) -> String { Self.text("\(device)", self[device]) }

  /// A requester as it is printed, and its driver, if that is known.
  static func text(_ name: String, _ driver: String?) -> String {
    driver.map { "\(name) \($0.visible)" } ?? name
  }

  /// A sentence with the driver behind the word that has the device in it, where it is the first such word.
  func naming(_ device: PCI.Function?, in sentence: String) -> String {
    Self.naming(device, device.flatMap { self[$0] }, in: sentence)
  }

  static func naming(_ device: PCI.Function?, _ driver: String?, in sentence: String) -> String {
    guard let device, let driver,
      let place = sentence.firstRange(of: "\(device)")
    else { return sentence }
    // `00:03.0/5` is one word; what stands behind it is not part of it.
    let end =
      sentence[place.upperBound...].firstIndex { " :,;)".contains($0) } ?? sentence.endIndex
    return sentence[..<end] + " \(driver.visible)" + sentence[end...]
  }
}

extension TableOwner {
  /// The one requester that it is.
  var requester: PCI.Function? {
    if case .requester(let device, _) = self { device } else { nil }
  }
}

extension TableGap {
  /// ``text`` with the driver of the one requester that it is about.
  func text(_ names: DeviceNames) -> String {
    switch scope {
    case .addresses(let owner, _): names.naming(owner.device, in: text)
    case .requesters(let range) where range.count == 1:
      names.naming(
        PCI.Function(segment: segment, Requester(rawValue: range.lowerBound)), in: text)
    case .addressSpaces(let requester, _):
      names.naming(PCI.Function(segment: segment, requester), in: text)
    case .unit, .units, .requesters, .interrupts: text
    }
  }
}
