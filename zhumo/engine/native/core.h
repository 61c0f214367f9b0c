// What Python and C agree on. Every number here is checked in Python before a call: this side believes it.
//
// A matrix lies in tiles of 16 rows, a tile in blocks of 32 columns, a block in groups of 4 columns: group after group,
// the 4 columns of row 0, of row 1, ... of row 15. So one vector instruction multiplies 4 numbers of an activation with
// 16 rows at once, and weights are read once, in the order they lie. Rows and columns are filled up with zeros.

#ifndef ZHUMO_CORE_H
#define ZHUMO_CORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { ROWS = 16, BLOCK = 32, GROUPS = 8, QUERIES = 4, PAGE = 4096, TOGETHER = 32, CELLS = ROWS * BLOCK };
enum { PLAIN, AVX2, AVX512, AMX, PATHS };
enum { GELU, GELU_TANH, RELU, SILU };

typedef struct {
    const uint8_t *quants;   // tiles x blocks x 64 * bits; 4 bits: group g below and group g + 4 above in one byte
    const uint16_t *scales;  // tiles x blocks x 16, float16
    const uint16_t *minima;  // the same: weight = scale * quant + minimum; NULL: weight = scale * (quant - 2^(bits-1))
    const float *bias;       // tiles x 16, or NULL
    int32_t tiles, blocks, bits, unused;
} Matrix;

typedef struct {
    const float *attention_gain, *attention_shift, *query_gain, *query_shift, *key_gain, *key_shift;
    const float *feed_gain, *feed_shift;  // gains are never NULL but for query and key; a NULL shift adds nothing
    Matrix query, key, value, out, gate, up, down;  // gate without quants: the feed-forward has none
} Layer;

typedef struct {
    const Layer *layers;
    const float *gain, *shift;  // the last norm; NULL: none
    Matrix head;                // without quants: there is none
    const float *cosine, *sine; // length x head_dim / 2, or NULL
    int32_t depth, width, heads, kv_heads, head_dim, hidden, length, slots, window;
    int32_t norm_first, centred, activation;  // centred: layer norm, else the root of the mean square
    int32_t passing;                          // keys and values serve this step alone: all layers have one place for them
    float epsilon, scale;                     // scale: of attention scores
    void *keys;    // depth (passing: 1) x slots x kv_heads x length / 16 x head_dim x 16, float16 or int8
    void *values;  // depth x slots x kv_heads x length x head_dim, the same
    float *key_scales, *value_scales;  // of int8, depth x slots x kv_heads x length; NULL: they are float16
} Model;

typedef struct {
    int32_t count, wanted;
    int32_t written, unused;  // so many rows, the first ones, go on with a text; the others are of prompts
    const int32_t *slots, *positions, *untils;  // of each row: whose it is, where it stands, how many positions it sees
    const int32_t *rows;                        // which rows are wanted
    float *states;                              // count x width rounded up to 32: embeddings, then last hidden states
    float *logits;                              // wanted x tiles of the head * 16
    uint8_t *scratch;                           // as many bytes as `zhumo_scratch` says
} Step;

typedef struct {  // 32 activations in whole numbers
    int8_t quants[BLOCK];
    float scale;
    float lift;       // the sum of the numbers, which a minimum of the weights is multiplied with
    int32_t owed[2];  // minus the sum of the quants, times what unsigned weights of 4 bits, and of 8, are too large by
} Block;

typedef struct {
    Block *blocks;    // rows x count
    uint16_t *tiles;  // of rows of prompts, where there are tiles: groups of 16 x count x 16 rows x 32, bfloat16
    int32_t count;
} Entered;

typedef struct Team Team;

typedef struct {
    const Model *model;
    const Step *step;
    Team *team;
    int written;                     // rows whose activations are whole numbers: all, where there are no tiles
    Entered narrow, attended, wide;  // what goes into query, key, value, gate and up; into out; into down
    float *query, *key, *value;
    float *scores;     // threads x QUERIES x length
    uint16_t *weights; // threads x 4 x the most blocks of a row x CELLS, bfloat16: four tiles of weights
    size_t weighed;    // blocks of one of these tiles
    uint8_t *desks;    // what each thread attends with, where there are tiles
    int32_t *groups;   // first row and count of rows that stand together
    int32_t group_count;
} Work;

typedef void (*Run)(const Work *work, int thread);

#endif
