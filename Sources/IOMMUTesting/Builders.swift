import IOMMUFormats
import IOMMUTranslation

extension VTd.Tables: TranslatingTables {}
extension AMDVi.Tables: TranslatingTables {}
extension Calgary.Tables: TranslatingTables {}
extension GART.Tables: TranslatingTables {}
