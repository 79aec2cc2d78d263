/* The forward process of forward_process.py, bit for bit; see compiled_words.py.

   B rows, N fields, W words a row; t is the threshold of a row. The inner loops run over a block of
   rows, so that a compiler turns them into vector instructions. */

#include <stdint.h>

enum { BLOCK_ROWS = 256, PLANES = 12 };

/* Philox4x32-10 (philox.py), in place. */
static inline void philox4x32(uint32_t c[4], uint64_t seed) {
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = (uint64_t)0xD2511F53 * c[0], product1 = (uint64_t)0xCD9E8D57 * c[2];
    c[0] = (uint32_t)(product1 >> 32) ^ c[1] ^ key0;
    c[1] = (uint32_t)product1;
    c[2] = (uint32_t)(product0 >> 32) ^ c[3] ^ key1;
    c[3] = (uint32_t)product0;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

/* t of a row: t / 4096 is the probability with which its features are dropped. */
static inline uint32_t drop_threshold(uint32_t row, uint64_t seed, uint32_t step, uint32_t levels) {
  uint32_t c[4] = {row, 0, step, 0};
  philox4x32(c, seed);
  uint32_t trapezoid = (c[0] >> 20) + (c[1] & 1);
  return (trapezoid * levels + (c[2] >> 20)) >> PLANES;
}

/* A word whose bits are set with probability t / 4096 each: twelve bit planes against t's digits. */
static inline uint32_t dropped_word(uint32_t row, uint32_t column, uint64_t seed, uint32_t step,
                                    uint32_t t) {
  uint32_t less = 0;
  for (uint32_t stream = 1; stream <= PLANES / 4; ++stream) {
    uint32_t planes[4] = {row, column, step, stream};
    philox4x32(planes, seed);
    for (int quarter = 0; quarter < 4; ++quarter) {
      uint32_t digit = -((t >> (4 * stream - 4 + quarter)) & 1), below = ~planes[quarter];
      less = (digit & (below | less)) | (below & less);
    }
  }
  return less | -(t >> PLANES); /* t = 4096 drops all */
}

/* Rows first .. last - 1 of missing, int32 [B, W], to words, int32 [B, W]; row r of them is row
   first_row + r of the global batch. With fixed_rate, t = levels in all rows. */
void drop_words(const int32_t *missing, int32_t *words, int64_t first, int64_t last,
                int64_t words_of_row, int64_t fields, uint64_t seed, uint32_t step,
                uint32_t first_row, uint32_t levels, int fixed_rate) {
  uint32_t t[BLOCK_ROWS], dropped[BLOCK_ROWS];
  for (int64_t start = first; start < last; start += BLOCK_ROWS) {
    int64_t rows = last - start < BLOCK_ROWS ? last - start : BLOCK_ROWS;
    uint32_t row = first_row + (uint32_t)start;
    for (uint32_t i = 0; i < BLOCK_ROWS; ++i)
      t[i] = fixed_rate ? levels : drop_threshold(row + i, seed, step, levels);
    for (int64_t column = 0; column < words_of_row; ++column) {
      int64_t present = fields - 32 * column;
      uint32_t used = present >= 32 ? ~(uint32_t)0 : ((uint32_t)1 << present) - 1;
      for (uint32_t i = 0; i < BLOCK_ROWS; ++i)
        dropped[i] = used & dropped_word(row + i, (uint32_t)column, seed, step, t[i]);
      for (int64_t i = 0; i < rows; ++i) {
        int64_t place = (start + i) * words_of_row + column;
        words[place] = missing[place] | (int32_t)dropped[i];
      }
    }
  }
}
