import IOMMUFormats
import IOMMUInspection

extension DecodeGoldens {
  /// The entries of scalable mode.
  static let scalableMode: [(name: String, words: [UInt64], text: String)] = [
    (
      "sm-root", [0x12_3456_7001, 0x89_abcd_e001],
      """
      scalable-mode root entry  (Intel VT-d 9.2)
      value  low 0x0000001234567001, high 0x00000089abcde001
      bytes  01 70 56 34 12 00 00 00  01 e0 cd ab 89 00 00 00

      bits 127:64
      reserved     UCTP                                     reserved    UP
      000000000000 0000000000001000100110101011110011011110 00000000000  1
      bits 63:0
      reserved     LCTP                                     reserved    LP
      000000000000 0000000000000001001000110100010101100111 00000000000  1

      bits 127:116  reserved  0x0
      bits 115:76   UCTP      0x89abcde  address 0x89abcde000
      bits 75:65    reserved  0x0
      bit 64        UP        0x1
      bits 63:52    reserved  0x0
      bits 51:12    LCTP      0x1234567  address 0x1234567000
      bits 11:1     reserved  0x0
      bit 0         LP        0x1

      lower context table 0x1234567000 and upper context table 0x89abcde000

      """
    ),
    (
      "sm-context", [0xab_cdef_0e1d, 0x1_2345, 0x0, 0x0],
      """
      scalable-mode context entry  (Intel VT-d 9.4)
      value  0x000000abcdef0e1d  bits 63:0
             0x0000000000012345  bits 127:64
             0x0000000000000000  bits 191:128
             0x0000000000000000  bits 255:192
      bytes  1d 0e ef cd ab 00 00 00  45 23 01 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00

      bits 255:192
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 191:128
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 127:64
      reserved                                    RID_PRIV RID_PASID
      0000000000000000000000000000000000000000000        0 00010010001101000101
      bits 63:0
      reserved     PASIDDIRPTR                              PDTS reserved EPTR HPTE
      000000000000 0000000000001010101111001101111011110000  111       00    0    0
      PRE PASIDE DTE FPD P
        1      1   1   0 1

      bits 255:192  reserved     0x0
      bits 191:128  reserved     0x0
      bits 127:85   reserved     0x0
      bit 84        RID_PRIV     0x0
      bits 83:64    RID_PASID    0x12345
      bits 63:52    reserved     0x0
      bits 51:12    PASIDDIRPTR  0xabcdef0  address 0xabcdef0000
      bits 11:9     PDTS         0x7
      bits 8:7      reserved     0x0
      bit 6         EPTR         0x0
      bit 5         HPTE         0x0
      bit 4         PRE          0x1
      bit 3         PASIDE       0x1
      bit 2         DTE          0x1
      bit 1         FPD          0x0
      bit 0         P            0x1

      PASID directory 0xabcdef0000 for PASIDs below 1048576, may send PASIDs, translation requests and page requests, requests without PASID count as PASID 74565

      """
    ),
    (
      "pasid-dir", [0xfe_dcba_9001],
      """
      PASID directory entry  (Intel VT-d 9.5)
      value  0x000000fedcba9001
      bytes  01 90 ba dc fe 00 00 00

      reserved     SMPTBLPTR                                reserved   FPD P
      000000000000 0000000000001111111011011100101110101001 0000000000   0 1

      bits 63:52  reserved   0x0
      bits 51:12  SMPTBLPTR  0xfedcba9  address 0xfedcba9000
      bits 11:2   reserved   0x0
      bit 1       FPD        0x0
      bit 0       P          0x1

      PASID table 0xfedcba9000

      """
    ),
    (
      "pasid", [0x20_00c9, 0x180_0007, 0x5000, 0x0, 0x0, 0x0, 0x0, 0x0],
      """
      PASID table entry  (Intel VT-d 9.6)
      value  0x00000000002000c9  bits 63:0
             0x0000000001800007  bits 127:64
             0x0000000000005000  bits 191:128
             0x0000000000000000  bits 255:192
             0x0000000000000000  bits 319:256
             0x0000000000000000  bits 383:320
             0x0000000000000000  bits 447:384
             0x0000000000000000  bits 511:448
      bytes  c9 00 20 00 00 00 00 00  07 00 80 01 00 00 00 00
             00 50 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
             00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00

      bits 511:448
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 447:384
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 383:320
      reserved                                         HPTDID
      000000000000000000000000000000000000000000000000 0000000000000000
      bits 319:256
      reserved     HPTPTR                                   reserved  HPTPFD HPTSZ
      000000000000 0000000000000000000000000000000000000000 000000000      0    00
      bits 255:192
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 191:128
      reserved     FSPTPTR                                  reserved EAFE ignored WPE
      000000000000 0000000000000000000000000000000000000101     0000    0      00   0
      FSPM reserved SRE
        00        0   0
      bits 127:64
      PAT                              reserved EMTE CD PGSNP PWSNP reserved
      00000000000000000000000000000000    00000    0  0     1     1  0000000
      DID
      0000000000000111
      bits 63:0
      reserved     SSPTPTR                                  reserved SSADE PGTT
      000000000000 0000000000000000000000000000001000000000       00     0  011
      reserved AW  FPD P
             0 010   0 1

      bits 511:448  reserved  0x0
      bits 447:384  reserved  0x0
      bits 383:336  reserved  0x0
      bits 335:320  HPTDID    0x0
      bits 319:308  reserved  0x0
      bits 307:268  HPTPTR    0x0    address 0x0
      bits 267:259  reserved  0x0
      bit 258       HPTPFD    0x0
      bits 257:256  HPTSZ     0x0
      bits 255:192  reserved  0x0
      bits 191:180  reserved  0x0
      bits 179:140  FSPTPTR   0x5    address 0x5000
      bits 139:136  reserved  0x0
      bit 135       EAFE      0x0
      bits 134:133  ignored   0x0
      bit 132       WPE       0x0
      bits 131:130  FSPM      0x0
      bit 129       reserved  0x0
      bit 128       SRE       0x0
      bits 127:96   PAT       0x0
      bits 95:91    reserved  0x0
      bit 90        EMTE      0x0
      bit 89        CD        0x0
      bit 88        PGSNP     0x1
      bit 87        PWSNP     0x1
      bits 86:80    reserved  0x0
      bits 79:64    DID       0x7
      bits 63:52    reserved  0x0
      bits 51:12    SSPTPTR   0x200  address 0x200000
      bits 11:10    reserved  0x0
      bit 9         SSADE     0x0
      bits 8:6      PGTT      0x3
      bit 5         reserved  0x0
      bits 4:2      AW        0x2
      bit 1         FPD       0x0
      bit 0         P         0x1

      first-stage table 0x5000, 4 levels, of a guest in second-stage table 0x200000, 4 levels, domain 7

      """
    ),
    (
      "fs-pml5e", [0x8427],
      """
      FS-PML5E  (Intel VT-d 9.7)
      value  0x0000000000008427
      bytes  27 84 00 00 00 00 00 00

      XD ignored     ADDR                                     ignored EA ignored
       0 00000000000 0000000000000000000000000000000000001000       0  1       0
      ignored reserved ignored A PCD PWT U/S R/W P
            0        0       0 1   0   0   1   1 1

      bit 63      XD        0x0  ignored
      bits 62:52  ignored   0x0
      bits 51:12  ADDR      0x8  address 0x8000
      bit 11      ignored   0x0
      bit 10      EA        0x1
      bit 9       ignored   0x0
      bit 8       ignored   0x0
      bit 7       reserved  0x0
      bit 6       ignored   0x0
      bit 5       A         0x1
      bit 4       PCD       0x0
      bit 3       PWT       0x0
      bit 2       U/S       0x1
      bit 1       R/W       0x1
      bit 0       P         0x1

      table 0x8000, read and write, user

      """
    ),
    (
      "fs-pml4e", [0x84a7],
      """
      FS-PML4E  (Intel VT-d 9.7)
      value  0x00000000000084a7
      bytes  a7 84 00 00 00 00 00 00

      XD ignored     ADDR                                     ignored EA ignored
       0 00000000000 0000000000000000000000000000000000001000       0  1       0
      ignored reserved ignored A PCD PWT U/S R/W P
            0        1       0 1   0   0   1   1 1

      bit 63      XD        0x0  ignored
      bits 62:52  ignored   0x0
      bits 51:12  ADDR      0x8  address 0x8000
      bit 11      ignored   0x0
      bit 10      EA        0x1
      bit 9       ignored   0x0
      bit 8       ignored   0x0
      bit 7       reserved  0x1  must be zero
      bit 6       ignored   0x0
      bit 5       A         0x1
      bit 4       PCD       0x0
      bit 3       PWT       0x0
      bit 2       U/S       0x1
      bit 1       R/W       0x1
      bit 0       P         0x1

      table 0x8000, read and write, user
      reserved bit 7 is set

      """
    ),
    (
      "fs-pdpe", [0x4000_0087],
      """
      FS-PDPE (1 GiB page)  (Intel VT-d 9.7)
      value  0x0000000040000087
      bytes  87 00 00 40 00 00 00 00

      XD ignored     ADDR                   reserved          PAT ignored EA ignored G
       0 00000000000 0000000000000000000001 00000000000000000   0       0  0       0 0
      PS D A PCD PWT U/S R/W P
       1 0 0   0   0   1   1 1

      bit 63      XD        0x0  ignored
      bits 62:52  ignored   0x0
      bits 51:30  ADDR      0x1  address 0x40000000
      bits 29:13  reserved  0x0
      bit 12      PAT       0x0
      bit 11      ignored   0x0
      bit 10      EA        0x0
      bit 9       ignored   0x0
      bit 8       G         0x0  ignored
      bit 7       PS        0x1
      bit 6       D         0x0
      bit 5       A         0x0
      bit 4       PCD       0x0
      bit 3       PWT       0x0
      bit 2       U/S       0x1
      bit 1       R/W       0x1
      bit 0       P         0x1

      1 GiB page 0x40000000, read and write, user

      """
    ),
    (
      "fs-pde", [0x4000_1087],
      """
      FS-PDE (2 MiB page)  (Intel VT-d 9.7)
      value  0x0000000040001087
      bytes  87 10 00 40 00 00 00 00

      XD ignored     ADDR                            reserved PAT ignored EA ignored G
       0 00000000000 0000000000000000000001000000000 00000000   1       0  0       0 0
      PS D A PCD PWT U/S R/W P
       1 0 0   0   0   1   1 1

      bit 63      XD        0x0    ignored
      bits 62:52  ignored   0x0
      bits 51:21  ADDR      0x200  address 0x40000000
      bits 20:13  reserved  0x0
      bit 12      PAT       0x1
      bit 11      ignored   0x0
      bit 10      EA        0x0
      bit 9       ignored   0x0
      bit 8       G         0x0    ignored
      bit 7       PS        0x1
      bit 6       D         0x0
      bit 5       A         0x0
      bit 4       PCD       0x0
      bit 3       PWT       0x0
      bit 2       U/S       0x1
      bit 1       R/W       0x1
      bit 0       P         0x1

      2 MiB page 0x40000000, read and write, user

      """
    ),
    (
      "fs-pte", [0xdead_b067],
      """
      FS-PTE  (Intel VT-d 9.7)
      value  0x00000000deadb067
      bytes  67 b0 ad de 00 00 00 00

      XD ignored     ADDR                                     ignored EA ignored G PAT
       0 00000000000 0000000000000000000011011110101011011011       0  0       0 0   0
      D A PCD PWT U/S R/W P
      1 1   0   0   1   1 1

      bit 63      XD       0x0      ignored
      bits 62:52  ignored  0x0
      bits 51:12  ADDR     0xdeadb  address 0xdeadb000
      bit 11      ignored  0x0
      bit 10      EA       0x0
      bit 9       ignored  0x0
      bit 8       G        0x0      ignored
      bit 7       PAT      0x0
      bit 6       D        0x1
      bit 5       A        0x1
      bit 4       PCD      0x0
      bit 3       PWT      0x0
      bit 2       U/S      0x1
      bit 1       R/W      0x1
      bit 0       P        0x1

      page 0xdeadb000, read and write, user, accessed, dirty

      """
    ),
  ]
}
