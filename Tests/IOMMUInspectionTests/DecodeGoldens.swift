import IOMMUFormats
import IOMMUInspection

/// What every kind of entry looks like taken apart, as whole screens.
enum DecodeGoldens {
  static let all = legacy + scalableMode

  /// Everything but scalable mode.
  static let legacy: [(name: String, words: [UInt64], text: String)] = [
    (
      "tce", [0x1234_5003],
      """
      TCE  (Linux tce.h, tce_64.c)
      value  0x0000000012345003
      bytes  00 00 00 00 12 34 50 03

      ignored          RPN                                  ignored hub id W R
      0000000000000000 000000000000000000010010001101000101    0000 000000 1 1

      bits 63:48  ignored  0x0
      bits 47:12  RPN      0x12345  address 0x12345000
      bits 11:8   ignored  0x0
      bits 7:2    hub id   0x0      ignored
      bit 1       W        0x1
      bit 0       R        0x1

      page 0x12345000, read and write

      """
    ),
    (
      "tar", [0x1234_8007],
      """
      TAR  (Linux pci-calgary_64.c)
      value  0x0000000012348007
      bytes  00 00 00 00 12 34 80 07

      preserved        TABLE                             preserved   VALID SIZE
      0000000000000000 000000000000000000010010001101001 00000000000     0  111

      bits 63:48  preserved  0x0     ignored
      bits 47:15  TABLE      0x2469  address 0x12348000
      bits 14:4   preserved  0x0     ignored
      bit 3       VALID      0x0
      bits 2:0    SIZE       0x7

      TCE table at 0x12348000, 8 MiB with 1048576 entries for 4 GiB of I/O space

      """
    ),
    (
      "config-rw", [0x2110_0000],
      """
      CONFIG_RW  (Linux pci-calgary_64.c)
      value  0x21100000
      bytes  21 10 00 00

      ignored TCE_ENABLE SLOT_DISABLE ignored DAC_DISABLE ignored MEM2_ENABLE ignored
           00          1          000       0           1       0           0       0
      MCSR_ENABLE ignored
                1 00000000000000000000

      bits 31:30  ignored       0x0
      bit 29      TCE_ENABLE    0x1
      bits 28:26  SLOT_DISABLE  0x0
      bit 25      ignored       0x0
      bit 24      DAC_DISABLE   0x1
      bit 23      ignored       0x0
      bit 22      MEM2_ENABLE   0x0
      bit 21      ignored       0x0
      bit 20      MCSR_ENABLE   0x1
      bits 19:0   ignored       0x0

      translates, refuses addresses of 4 GiB and more

      """
    ),
    (
      "stuff", [0x0001_0300],
      """
      STUFF  (Linux pci-calgary_64.c)
      value  0x00010300
      bytes  00 01 03 00

      ignored  FIRST    LAST     ignored
      00000000 00000001 00000011 00000000

      bits 31:24  ignored  0x0
      bits 23:16  FIRST    0x1
      bits 15:8   LAST     0x3
      bits 7:0    ignored  0x0

      buses 01 to 03

      """
    ),
    (
      "gatt", [0x3456_7123],
      """
      GATT entry  (Linux pci-gart_64.c, amd64-agp.c)
      value  0x34567123
      bytes  23 71 56 34

      ADDR31:12            ADDR39:32 reserved C V
      00110100010101100111  00010010       00 1 1

      bits 31:12  ADDR31:12  0x34567  address 0x34567000
      bits 11:4   ADDR39:32  0x12
      bits 3:2    reserved   0x0
      bit 1       C          0x1
      bit 0       V          0x1

      page 0x1234567000, read and write, coherent

      """
    ),
    (
      "gart-control", [0x3],
      """
      GART aperture control  (function 3, 0x90; Linux gart.h)
      value  0x00000003
      bytes  03 00 00 00

      reserved                  DisGartTblWlkPrb DisGartIo DisGartCpu GartSize GartEn
      0000000000000000000000000                0         0          0      001      1

      bits 31:7  reserved          0x0
      bit 6      DisGartTblWlkPrb  0x0
      bit 5      DisGartIo         0x0
      bit 4      DisGartCpu        0x0
      bits 3:1   GartSize          0x1
      bit 0      GartEn            0x1

      aperture of 64 MiB, translates for the CPU and devices

      """
    ),
    (
      "gart-base", [0x2],
      """
      GART aperture base  (function 3, 0x94; Linux gart.h)
      value  0x00000002
      bytes  02 00 00 00

      reserved          BASE39:25
      00000000000000000 000000000000010

      bits 31:15  reserved   0x0
      bits 14:0   BASE39:25  0x2

      aperture starts at 0x4000000

      """
    ),
    (
      "gart-table", [0x200],
      """
      GART table base  (function 3, 0x98; Linux gart.h)
      value  0x00000200
      bytes  00 02 00 00

      BASE39:12                    reserved
      0000000000000000000000100000     0000

      bits 31:4  BASE39:12  0x20
      bits 3:0   reserved   0x0

      GATT at 0x20000

      """
    ),
    (
      "gart-cache", [0x2],
      """
      GART cache control  (function 3, 0x9c; Linux k8.c)
      value  0x00000002
      bytes  02 00 00 00

      reserved                       GartPteErr InvGart
      000000000000000000000000000000          1       0

      bits 31:2  reserved    0x0
      bit 1      GartPteErr  0x1
      bit 0      InvGart     0x0

      a walk has met an invalid entry

      """
    ),
    (
      "root", [0x1234_5001, 0],
      """
      root entry  (Intel VT-d 9.1)
      value  low 0x0000000012345001, high 0x0000000000000000
      bytes  01 50 34 12 00 00 00 00  00 00 00 00 00 00 00 00

      bits 127:64
      reserved
      0000000000000000000000000000000000000000000000000000000000000000
      bits 63:0
      reserved     CTP                                      reserved    P
      000000000000 0000000000000000000000010010001101000101 00000000000 1

      bits 127:64  reserved  0x0
      bits 63:52   reserved  0x0
      bits 51:12   CTP       0x12345  address 0x12345000
      bits 11:1    reserved  0x0
      bit 0        P         0x1

      context table 0x12345000

      """
    ),
    (
      "context", [0x1_2345_6001, 0x10202],
      """
      context entry  (Intel VT-d 9.3)
      value  low 0x0000000123456001, high 0x0000000000010202
      bytes  01 60 45 23 01 00 00 00  02 02 01 00 00 00 00 00

      bits 127:64
      reserved                                 DID              reserved ignored AW
      0000000000000000000000000000000000000000 0000000100000010        0    0000 010
      bits 63:0
      reserved     SSPTPTR                                  reserved TT FPD P
      000000000000 0000000000000000000100100011010001010110 00000000 00   0 1

      bits 127:88  reserved  0x0
      bits 87:72   DID       0x102
      bit 71       reserved  0x0
      bits 70:67   ignored   0x0
      bits 66:64   AW        0x2
      bits 63:52   reserved  0x0
      bits 51:12   SSPTPTR   0x123456  address 0x123456000
      bits 11:4    reserved  0x0
      bits 3:2     TT        0x0
      bit 1        FPD       0x0
      bit 0        P         0x1

      second-stage table 0x123456000, 4 levels, domain 258

      """
    ),
    (
      "context", [0x1_2345_6011, 0x10202],
      """
      context entry  (Intel VT-d 9.3)
      value  low 0x0000000123456011, high 0x0000000000010202
      bytes  11 60 45 23 01 00 00 00  02 02 01 00 00 00 00 00

      bits 127:64
      reserved                                 DID              reserved ignored AW
      0000000000000000000000000000000000000000 0000000100000010        0    0000 010
      bits 63:0
      reserved     SSPTPTR                                  reserved TT FPD P
      000000000000 0000000000000000000100100011010001010110 00000001 00   0 1

      bits 127:88  reserved  0x0
      bits 87:72   DID       0x102
      bit 71       reserved  0x0
      bits 70:67   ignored   0x0
      bits 66:64   AW        0x2
      bits 63:52   reserved  0x0
      bits 51:12   SSPTPTR   0x123456  address 0x123456000
      bits 11:4    reserved  0x1       must be zero
      bits 3:2     TT        0x0
      bit 1        FPD       0x0
      bit 0        P         0x1

      second-stage table 0x123456000, 4 levels, domain 258
      reserved bits 11:4 are set: 0x1

      """
    ),
    (
      "ss-pml5e", [0x5003],
      """
      SS-PML5E  (Intel VT-d 9.8)
      value  0x0000000000005003
      bytes  03 50 00 00 00 00 00 00

      ignored reserved IR ignored   ADDR                                     reserved
            0        0  0 000000000 0000000000000000000000000000000000000101        0
      ignored A reserved ignored ignored W R
           00 0        0    0000       0 1 1

      bit 63      ignored   0x0
      bit 62      reserved  0x0
      bit 61      IR        0x0  ignored
      bits 60:52  ignored   0x0
      bits 51:12  ADDR      0x5  address 0x5000
      bit 11      reserved  0x0
      bits 10:9   ignored   0x0
      bit 8       A         0x0
      bit 7       reserved  0x0
      bits 6:3    ignored   0x0
      bit 2       ignored   0x0
      bit 1       W         0x1
      bit 0       R         0x1

      table 0x5000, read and write

      """
    ),
    (
      "ss-pml4e", [0x5083],
      """
      SS-PML4E  (Intel VT-d 9.8)
      value  0x0000000000005083
      bytes  83 50 00 00 00 00 00 00

      ignored reserved IR ignored   ADDR                                     reserved
            0        0  0 000000000 0000000000000000000000000000000000000101        0
      ignored A reserved ignored ignored W R
           00 0        1    0000       0 1 1

      bit 63      ignored   0x0
      bit 62      reserved  0x0
      bit 61      IR        0x0  ignored
      bits 60:52  ignored   0x0
      bits 51:12  ADDR      0x5  address 0x5000
      bit 11      reserved  0x0
      bits 10:9   ignored   0x0
      bit 8       A         0x0
      bit 7       reserved  0x1  must be zero
      bits 6:3    ignored   0x0
      bit 2       ignored   0x0
      bit 1       W         0x1
      bit 0       R         0x1

      table 0x5000, read and write
      reserved bit 7 is set

      """
    ),
    (
      "ss-pdpe", [0x4000_0083],
      """
      SS-PDPE (1 GiB page)  (Intel VT-d 9.8)
      value  0x0000000040000083
      bytes  83 00 00 40 00 00 00 00

      ignored TM IR ignored   ADDR                   reserved           SNP ignored D
            0  0  0 000000000 0000000000000000000001 000000000000000000   0       0 0
      A PS IPAT EMT ignored W R
      0  1    0 000       0 1 1

      bit 63      ignored   0x0
      bit 62      TM        0x0
      bit 61      IR        0x0  ignored
      bits 60:52  ignored   0x0
      bits 51:30  ADDR      0x1  address 0x40000000
      bits 29:12  reserved  0x0
      bit 11      SNP       0x0
      bit 10      ignored   0x0
      bit 9       D         0x0
      bit 8       A         0x0
      bit 7       PS        0x1
      bit 6       IPAT      0x0
      bits 5:3    EMT       0x0
      bit 2       ignored   0x0
      bit 1       W         0x1
      bit 0       R         0x1

      1 GiB page 0x40000000, read and write

      """
    ),
    (
      "ss-pde", [0x20_1083],
      """
      SS-PDE (2 MiB page)  (Intel VT-d 9.8)
      value  0x0000000000201083
      bytes  83 10 20 00 00 00 00 00

      ignored TM IR ignored   ADDR                            reserved  SNP ignored D
            0  0  0 000000000 0000000000000000000000000000001 000000001   0       0 0
      A PS IPAT EMT ignored W R
      0  1    0 000       0 1 1

      bit 63      ignored   0x0
      bit 62      TM        0x0
      bit 61      IR        0x0  ignored
      bits 60:52  ignored   0x0
      bits 51:21  ADDR      0x1  address 0x200000
      bits 20:12  reserved  0x1  must be zero
      bit 11      SNP       0x0
      bit 10      ignored   0x0
      bit 9       D         0x0
      bit 8       A         0x0
      bit 7       PS        0x1
      bit 6       IPAT      0x0
      bits 5:3    EMT       0x0
      bit 2       ignored   0x0
      bit 1       W         0x1
      bit 0       R         0x1

      2 MiB page 0x201000, read and write
      reserved bits 20:12 are set: 0x1

      """
    ),
    (
      "ss-pte", [0x1234_5803],
      """
      SS-PTE  (Intel VT-d 9.8)
      value  0x0000000012345803
      bytes  03 58 34 12 00 00 00 00

      ignored TM IR ignored   ADDR                                     SNP ignored D A
            0  0  0 000000000 0000000000000000000000010010001101000101   1       0 0 0
      ignored IPAT EMT ignored W R
            0    0 000       0 1 1

      bit 63      ignored  0x0
      bit 62      TM       0x0
      bit 61      IR       0x0      ignored
      bits 60:52  ignored  0x0
      bits 51:12  ADDR     0x12345  address 0x12345000
      bit 11      SNP      0x1
      bit 10      ignored  0x0
      bit 9       D        0x0
      bit 8       A        0x0
      bit 7       ignored  0x0
      bit 6       IPAT     0x0
      bits 5:3    EMT      0x0
      bit 2       ignored  0x0
      bit 1       W        0x1
      bit 0       R        0x1

      page 0x12345000, read and write

      """
    ),
    (
      "cap", [0x00d2_008c_222f_0686],
      """
      CAP_REG  (Intel VT-d 11.4.2)
      value  0x00d2008c222f0686
      bytes  86 06 2f 22 8c 00 d2 00

      ESRTPS ESIRTPS ECMDS FS5LP PI reserved FS1GP DRD DWD MAMV   NFR      PSI
           0       0     0     0  0       00     0   1   1 010010 00000000   1
      reserved SSLPS FRO        DEP ZLR MGAW   reserved SAGAW CM PHMR PLMR RWBF AFL
             0  0011 0000100010   0   0 101111      000 00110  1    0    0    0   0
      ND
      110

      bit 63      ESRTPS    0x0
      bit 62      ESIRTPS   0x0
      bit 61      ECMDS     0x0
      bit 60      FS5LP     0x0
      bit 59      PI        0x0
      bits 58:57  reserved  0x0
      bit 56      FS1GP     0x0
      bit 55      DRD       0x1
      bit 54      DWD       0x1
      bits 53:48  MAMV      0x12
      bits 47:40  NFR       0x0
      bit 39      PSI       0x1
      bit 38      reserved  0x0
      bits 37:34  SSLPS     0x3
      bits 33:24  FRO       0x22
      bit 23      DEP       0x0   ignored
      bit 22      ZLR       0x0
      bits 21:16  MGAW      0x2f
      bits 15:13  reserved  0x0
      bits 12:8   SAGAW     0x6
      bit 7       CM        0x1
      bit 6       PHMR      0x0
      bit 5       PLMR      0x0
      bit 4       RWBF      0x0
      bit 3       AFL       0x0
      bits 2:0    ND        0x6

      IOVAs of 48 bits, tables of 3 and 4 levels, pages of 4 KiB, 2 MiB and 1 GiB, domain-ids of 16 bits

      """
    ),
    (
      "ecap", [0xf0_0f5a],
      """
      ECAP_REG  (Intel VT-d 11.4.3)
      value  0x0000000000f00f5a
      bytes  5a 0f f0 00 00 00 00 00

      ignored IRREQ EIMER RDTS HPT1GPS SMS SSIRWS PTRS HPTS ignored RPRIVS ADMS PMS
            0     0     0    0       0   0      0    0    0       0      0    0   0
      TDXCS RPS SMPWCS FSTS SSTS SSADS VCS SMTS PDS DIT PASID PSS   EAFS NWFS POT SRS
          0   0      0    0    0     0   0    0   0   0     0 00000    0    0   0   0
      ERS PRS ignored DIS NEST MTS ECS MHMV ignored IRO        SC PT ignored EIM IR DT
        0   0       0   0    0   0   0 1111      00 0000001111  0  1       0   1  1  0
      QI C
       1 0

      bit 63      ignored  0x0
      bit 62      IRREQ    0x0
      bit 61      EIMER    0x0
      bit 60      RDTS     0x0
      bit 59      HPT1GPS  0x0
      bit 58      SMS      0x0
      bit 57      SSIRWS   0x0
      bit 56      PTRS     0x0
      bit 55      HPTS     0x0
      bit 54      ignored  0x0
      bit 53      RPRIVS   0x0
      bit 52      ADMS     0x0
      bit 51      PMS      0x0
      bit 50      TDXCS    0x0
      bit 49      RPS      0x0
      bit 48      SMPWCS   0x0
      bit 47      FSTS     0x0
      bit 46      SSTS     0x0
      bit 45      SSADS    0x0
      bit 44      VCS      0x0
      bit 43      SMTS     0x0
      bit 42      PDS      0x0
      bit 41      DIT      0x0
      bit 40      PASID    0x0
      bits 39:35  PSS      0x0
      bit 34      EAFS     0x0
      bit 33      NWFS     0x0
      bit 32      POT      0x0  ignored
      bit 31      SRS      0x0
      bit 30      ERS      0x0
      bit 29      PRS      0x0
      bit 28      ignored  0x0
      bit 27      DIS      0x0  ignored
      bit 26      NEST     0x0
      bit 25      MTS      0x0
      bit 24      ECS      0x0  ignored
      bits 23:20  MHMV     0xf
      bits 19:18  ignored  0x0
      bits 17:8   IRO      0xf
      bit 7       SC       0x0
      bit 6       PT       0x1
      bit 5       ignored  0x0
      bit 4       EIM      0x1
      bit 3       IR       0x1
      bit 2       DT       0x0
      bit 1       QI       0x1
      bit 0       C        0x0

      supports pass-through

      """
    ),
    (
      "gsts", [0xc000_0000],
      """
      GSTS_REG  (Intel VT-d 11.4.4.2)
      value  0xc0000000
      bytes  00 00 00 c0

      TES RTPS FLS AFLS WBFS QIES IRES IRTPS CFIS reserved
        1    1   0    0    0    0    0     0    0 00000000000000000000000

      bit 31     TES       0x1
      bit 30     RTPS      0x1
      bit 29     FLS       0x0
      bit 28     AFLS      0x0
      bit 27     WBFS      0x0
      bit 26     QIES      0x0
      bit 25     IRES      0x0
      bit 24     IRTPS     0x0
      bit 23     CFIS      0x0
      bits 22:0  reserved  0x0

      DMA remapping on, interrupt remapping off

      """
    ),
    (
      "rtaddr", [0x6a0_4000],
      """
      RTADDR_REG  (Intel VT-d 11.4.5)
      value  0x0000000006a04000
      bytes  00 40 a0 06 00 00 00 00

      RTA                                                  TTM reserved SSIRWE
      0000000000000000000000000000000000000110101000000100  00       00      0
      reserved
       0000000

      bits 63:12  RTA       0x6a04  address 0x6a04000
      bits 11:10  TTM       0x0
      bits 9:8    reserved  0x0
      bit 7       SSIRWE    0x0
      bits 6:0    reserved  0x0

      root table 0x6a04000, legacy mode

      """
    ),
  ]
}
