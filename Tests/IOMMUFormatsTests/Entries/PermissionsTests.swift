import IOMMUFormats
import Testing

@Suite struct PermissionsTests {
  @Test func `permissions are two letters`() {
    let all: [Permissions] = [[], .read, .write, .readWrite]
    #expect(all.map(\.description) == ["--", "r-", "-w", "rw"])
    #expect(all.map(\.rawValue) == [0, 1, 2, 3])
  }
}
