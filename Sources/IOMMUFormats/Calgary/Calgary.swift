/// IBM Calgary and CalIOC2, the IOMMUs of IBM's xSeries servers, to the bit.
///
/// No data sheet was ever published. What is here comes from the Linux driver of 2006 to 2019 and
/// from mails of its authors; where behaviour is unknown, the documentation says *assumed*.
public enum Calgary {
  /// PCI host bridges with a TCE table of their own in one chip.
  public static let hostBridgeCount = 4
}
