/// What this is a release of. The one place that says it: the tool, libiommu and the Makefile take the number
/// from here, and the first heading of CHANGELOG.md is held against it.
package enum Release {
  /// A semantic version.
  package static let version: StaticString = "0.2.0"
}
