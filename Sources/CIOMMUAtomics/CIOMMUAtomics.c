#include "CIOMMUAtomics.h"
