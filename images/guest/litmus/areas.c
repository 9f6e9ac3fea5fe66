// Where the variables lie.
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "images/guest/litmus/litmus.h"

enum { kPagesEach = 65, kLineSize = 64, kSplitCells = 64 };

// Two areas, x's and y's. The second half of each has its frames in another order than its pages, so that a page and
// the next are no neighbours in physical memory either.
static uint8_t* areas[2];

static uint8_t* make_area(void) {
  enum { kBytesEach = kPagesEach * kPageSize };
  int file = memfd_create("litmus", 0);
  if (file < 0 || ftruncate(file, kBytesEach) != 0) return NULL;
  uint8_t* area = mmap(NULL, kBytesEach, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (area == MAP_FAILED) return NULL;
  memset(area, 0, kBytesEach);  // frames are handed out in this order
  for (int page = kPagesEach / 2; page < kPagesEach; ++page) {
    int other = kPagesEach - 1 - (page - kPagesEach / 2);
    uint8_t* at = area + page * kPageSize;
    if (mmap(at, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (off_t)other * kPageSize) != at) {
      return NULL;
    }
  }
  return area;
}

bool make_areas(void) {
  areas[0] = make_area();
  areas[1] = make_area();
  return areas[0] && areas[1];
}

bool area_of(const Variant* v, Area* out) {
  const unsigned bytes = kBytes[v->width];
  if (v->test->doubles && (v->place != kLine || v->width == kWidth16)) return false;
  // A page that moves between nodes costs as much as thousands of cells, so a batch has as many as fill a few pages.
  unsigned cells = v->several_nodes ? 128 : kCellsMax;
  switch (v->place) {
    case kLine: *out = (Area){areas[0], areas[0] + bytes, kLineSize, cells}; return true;
    case kLines: *out = (Area){areas[0], areas[0] + kLineSize, 2 * kLineSize, cells}; return true;
    case kPages: *out = (Area){areas[0], areas[1], kLineSize, cells}; return true;
    case kSplitLine:
      *out = (Area){areas[0] + kLineSize - bytes / 2, areas[1] + kLineSize - bytes / 2, 2 * kLineSize, cells};
      return bytes > 1;
    case kSplitPage:
      cells = kSplitCells;
      *out = (Area){areas[0] + kPageSize - bytes / 2, areas[1] + kPageSize - bytes / 2, kPageSize, cells};
      return bytes > 1;
    default: return false;
  }
}
