// One step of a model, for one kind of processor. `core.c` includes this once a kind, with
//   PATH(name)    the name of a function of this kind,
//   LANES         how many numbers its registers hold: of wider vectors compilers make memory,
//   HALVES(p)     so many float16 numbers from p on, as float32,
//   BYTES(p)      so many int8 numbers from p on, as float32,
//   AT_ONCE       how many rows of activations share a tile of weights at most, 8 or 16,
//   TILE          the product of one tile and a few rows of activations,
//   TILES         defined where the processor multiplies whole tiles of bfloat16: rows of prompts go through those.

typedef float PATH(v) __attribute__((vector_size(4 * LANES)));
typedef float PATH(v_anywhere) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t PATH(i) __attribute__((vector_size(4 * LANES)));
typedef uint32_t PATH(u) __attribute__((vector_size(4 * LANES)));
typedef uint16_t PATH(h) __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

// Float32 to float16, to the nearest; what is too large becomes the largest.
static INLINE H PATH(to_half)(V x) {
    U sign = ((U)x >> 16) & 0x8000;
    V size = (V)((U)x & 0x7fffffff);
    size = WHERE(size < 65504.0f, size, (V){} + 65504.0f);  // also of a NaN
    U least = (U){} + (113u << 23), exponent = (U)size & 0x7f800000u;
    exponent = (U)WHERE(exponent > least, exponent, least);  // below 2^-14 all steps are alike
    U unit = exponent + (13u << 23);               // added, it leaves no bits below those of a float16
    U steps = (U)(size + (V)unit) - unit;
    return __builtin_convertvector(sign | ((((exponent >> 23) - 112) << 10) + steps - 1024), H);
}

static INLINE V PATH(exponential)(V x) {
    x = WHERE(x < -87.0f, (V){} - 87.0f, x);
    x = WHERE(x > 88.0f, (V){} + 88.0f, x);
    V n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the nearest whole number
    V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V y = 1.0f / 720.0f + r * (1.0f / 5040.0f);
    y = 1.0f / 120.0f + r * y;
    y = 1.0f / 24.0f + r * y;
    y = 1.0f / 6.0f + r * y;
    y = 0.5f + r * y;
    y = 1.0f + r * (1.0f + r * y);
    I power = (__builtin_convertvector(n, I) + 127) << 23;
    return y * (V)power;
}

static INLINE float PATH(sum)(V x) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

static INLINE float PATH(largest)(V x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

static INLINE V PATH(activated)(V x, int kind) {
    if (kind == RELU) return WHERE(x > 0.0f, x, (V){});
    if (kind == SILU) return x / (1.0f + PATH(exponential)(-x));
    if (kind == GELU_TANH) {
        V inner = 1.595769122f * (x + 0.044715f * x * x * x);  // twice sqrt(2 / pi), for tanh by one exponential
        return x / (1.0f + PATH(exponential)(-inner));
    }
    V a = x * 0.707106781f;  // Abramowitz and Stegun 7.1.26, to 1.5e-7
    V size = WHERE(a < 0.0f, -a, a);
    V t = 1.0f / (1.0f + 0.3275911f * size);
    V y = 0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)));
    V erf = 1.0f - t * y * PATH(exponential)(-a * a);
    return 0.5f * x * (1.0f + WHERE(a < 0.0f, -erf, erf));
}

// 32 numbers as whole ones with a scale. Plain loops: of conversions to bytes compilers make more than of vectors of them.
static INLINE void PATH(quantise)(const float *x, Block *out) {
    union {
        float numbers[BLOCK];
        int32_t bits[BLOCK];
    } sizes;
    memcpy(sizes.numbers, x, sizeof sizes);
    int32_t largest = 0, total = 0, whole[BLOCK];
    for (int i = 0; i < BLOCK; i++) {  // of floats without a sign, larger bits are larger numbers
        int32_t size = sizes.bits[i] & 0x7fffffff;
        largest = size > largest ? size : largest;
    }
    float most;
    memcpy(&most, &largest, sizeof most);
    float inverse = most > 0 ? 127.0f / most : 0;
    for (int i = 0; i < BLOCK; i++) {  // adding 1.5 * 2^23 rounds to the nearest whole number
        whole[i] = (int32_t)((x[i] * inverse + 12582912.0f) - 12582912.0f);
        total += whole[i];
    }
    for (int i = 0; i < BLOCK; i++) out->quants[i] = (int8_t)whole[i];
    out->scale = most / 127.0f;
    out->lift = out->scale * (float)total;
    out->owed[0] = -8 * total;
    out->owed[1] = -128 * total;
}

// A block of a row's activations, in the numbers that its products are made of.
static INLINE void PATH(put)(const Work *work, const Entered *to, int row, int block, const float *x) {
#ifdef TILES
    if (row >= work->written) {
        size_t own = row - work->written, group = own / ROWS * to->count + block;
        PATH(to_bfloat)(x, to->tiles + group * CELLS + own % ROWS * BLOCK);
        return;
    }
#endif
    (void)work;
    PATH(quantise)(x, to->blocks + (size_t)row * to->count + block);
}

// out = (x - mean) / deviation * gain + shift; both of `size`, filled up with zeros as gain and shift are.
static void PATH(normalise)(const float *x, float *out, int size, const float *gain, const float *shift,
                            const Model *model) {
    int filled = (size + BLOCK - 1) / BLOCK * BLOCK;
    V total = {}, squares = {};
    for (int i = 0; i < filled; i += LANES) total += LOAD(x + i);
    float mean = model->centred ? PATH(sum)(total) / size : 0;
    for (int i = 0; i < filled; i += LANES) {
        V away = LOAD(x + i) - mean;
        squares += away * away;
    }
    float spread = PATH(sum)(squares) - mean * mean * (filled - size);  // the zeros at the end are away by the mean
    float inverse = 1.0f / sqrtf(spread / size + model->epsilon);
    for (int i = 0; i < filled; i += LANES) {
        V y = (LOAD(x + i) - mean) * inverse * LOAD(gain + i);
        STORE(out + i, shift ? y + LOAD(shift + i) : y);
    }
}

// Before a linear layer: normalise, where that comes first, and turn into the numbers it multiplies. Where norms come
// after, x itself is normalised by what came before.
static void PATH(enter)(const Work *work, int thread, const float *gain, const float *shift) {
    const Model *model = work->model;
    Entered narrow = work->narrow;
    int filled = narrow.count * BLOCK, first, end;
    float row[filled];
    while ((end = take(work->team, work->step->count, &first)) > first)
        for (int r = first; r < end; r++) {
            float *x = work->step->states + (size_t)r * filled;
            float *y = model->norm_first ? row : x;
            if (gain) PATH(normalise)(x, y, model->width, gain, shift, model);
            for (int b = 0; b < narrow.count; b++) PATH(put)(work, &narrow, r, b, y + b * BLOCK);
        }
    (void)thread;
    meet(work->team);
}

static INLINE void PATH(tile)(const Matrix *m, int tile, const Entered *in, int row, const int count, float (*out)[ROWS]) {
    if (m->bits == 8)
        TILE(m, tile, in, row, count, 8, 0, out);
    else if (m->minima)
        TILE(m, tile, in, row, count, 4, 1, out);
    else
        TILE(m, tile, in, row, count, 4, 0, out);
    if (m->bias)
        for (int r = 0; r < count; r++)
            for (int i = 0; i < ROWS; i++) out[r][i] += m->bias[(size_t)tile * ROWS + i];
}

static void PATH(tile_1)(const Matrix *m, int tile, const Entered *in, int row, float (*out)[ROWS]) {
    PATH(tile)(m, tile, in, row, 1, out);
}

static void PATH(tile_4)(const Matrix *m, int tile, const Entered *in, int row, float (*out)[ROWS]) {
    PATH(tile)(m, tile, in, row, 4, out);
}

static void PATH(tile_8)(const Matrix *m, int tile, const Entered *in, int row, float (*out)[ROWS]) {
    PATH(tile)(m, tile, in, row, 8, out);
}

#if AT_ONCE == 16
static void PATH(tile_16)(const Matrix *m, int tile, const Entered *in, int row, float (*out)[ROWS]) {
    PATH(tile)(m, tile, in, row, 16, out);
}
#endif

// 16 outputs for as many rows as fit at once, from `row` on, before `end`; how many rows.
static INLINE int PATH(outputs)(const Matrix *m, int tile, const Entered *in, int row, int end, float (*out)[ROWS]) {
#if AT_ONCE == 16
    if (end - row >= 16) return PATH(tile_16)(m, tile, in, row, out), 16;
#endif
    if (end - row >= 8) return PATH(tile_8)(m, tile, in, row, out), 8;
    if (end - row >= 4) return PATH(tile_4)(m, tile, in, row, out), 4;
    return PATH(tile_1)(m, tile, in, row, out), 1;
}

// out = matrix * in, or added to what is there; out is rows x stride.
static void PATH(multiply)(const Matrix *m, const Entered *in, int rows, float *out, size_t stride, int add, int from,
                           int to) {
    for (int t = from; t < to; t++)
        for (int r = 0; r < rows;) {
            float y[AT_ONCE][ROWS];
            int count = PATH(outputs)(m, t, in, r, rows, y);
            for (int i = 0; i < count; i++, r++) {
                float *place = out + (size_t)r * stride + (size_t)t * ROWS;
                for (int j = 0; j < ROWS; j++) place[j] = add ? place[j] + y[i][j] : y[i][j];
            }
        }
}

#ifdef TILES
// Four tiles of weights, one after the other, that belong to this thread.
static INLINE uint16_t *PATH(own_weights)(const Work *work, int thread) {
    return work->weights + (size_t)thread * 4 * work->weighed * CELLS;
}

// The same as `multiply` for rows of prompts: weights become bfloat16 once for all of them, 32 outputs at a time.
static void PATH(multiply_tiles)(const Work *work, int thread, const Matrix *m, const Entered *in, int rows, float *out,
                                 size_t stride, int add, int from, int to) {
    uint16_t *weights = PATH(own_weights)(work, thread);
    for (int t = from; t < to; t += 2) {
        int pair = t + 1 < to ? 2 : 1;
        for (int i = 0; i < pair; i++) PATH(unpack)(m, t + i, weights + (size_t)i * m->blocks * CELLS);
        for (int r = 0; r < rows; r += 2 * ROWS) {
            _Alignas(64) float y[2][2][ROWS][ROWS];
            PATH(sums)(in, r / ROWS, rows - r > ROWS ? 2 : 1, weights, pair, y);
            for (int i = 0; i < 2 * ROWS && r + i < rows; i++)
                for (int j = 0; j < pair; j++) {
                    size_t tile = (size_t)(t + j) * ROWS;
                    float *place = out + (size_t)(r + i) * stride + tile;
                    V found = LOAD(y[i / ROWS][j][i % ROWS]);
                    if (m->bias) found += LOAD(m->bias + tile);
                    if (add) found += LOAD(place);
                    STORE(place, found);
                }
        }
    }
}
#endif

// The same for all rows of a step: those that are written, and those of prompts.
static INLINE void PATH(multiply_all)(const Work *work, int thread, const Matrix *m, const Entered *in, float *out,
                                      size_t stride, int add, int from, int to) {
    PATH(multiply)(m, in, work->written, out, stride, add, from, to);
#ifdef TILES
    int read = work->step->count - work->written;
    if (read) PATH(multiply_tiles)(work, thread, m, in, read, out + work->written * stride, stride, add, from, to);
#endif
    (void)thread;
}

// What a linear layer makes of a step's rows is added to their states.
static void PATH(project)(const Work *work, int thread, const Matrix *m, const Entered *in) {
    int first, end;
    while ((end = take(work->team, m->tiles, &first)) > first)
        PATH(multiply_all)(work, thread, m, in, work->step->states, (size_t)work->narrow.count * BLOCK, 1, first, end);
    meet(work->team);
}

static void PATH(look_for)(const Work *work, int thread, const Layer *layer) {
    const Matrix *parts[] = {&layer->query, &layer->key, &layer->value};
    float *outs[] = {work->query, work->key, work->value};
    int units = layer->query.tiles + layer->key.tiles + layer->value.tiles, first, end;
    while ((end = take(work->team, units, &first)) > first)
        for (int part = 0, before = 0; part < 3; before += parts[part++]->tiles) {
            int tiles = parts[part]->tiles;
            int from = first > before ? first - before : 0, to = end - before < tiles ? end - before : tiles;
            PATH(multiply_all)(work, thread, parts[part], &work->narrow, outs[part], (size_t)tiles * ROWS, 0, from, to);
        }
    meet(work->team);
}

static INLINE void PATH(turn)(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        V left = LOAD(x + i), right = LOAD(x + half + i), c = LOAD(cosine + i), s = LOAD(sine + i);
        STORE(x + i, left * c - right * s);
        STORE(x + half + i, right * c + left * s);
    }
}

// A key or a value as int8, each number so many bytes from the one before; returns its scale.
static INLINE float PATH(narrow)(const float *x, int size, int8_t *out, size_t stride) {
    V most = {};
    for (int i = 0; i < size; i += LANES) {
        V here = (V)((U)LOAD(x + i) & 0x7fffffff);
        most = WHERE(here > most, here, most);
    }
    float largest = PATH(largest)(most), inverse = largest > 0 ? 127.0f / largest : 0;
    for (int i = 0; i < size; i++)  // adding 1.5 * 2^23 rounds to the nearest whole number
        out[i * stride] = (int8_t)(int32_t)((x[i] * inverse + 12582912.0f) - 12582912.0f);
    return largest / 127.0f;
}

// Norms and ropes of queries and keys; keys and values go where later steps find them.
static void PATH(remember)(const Work *work, const Layer *layer, size_t place) {
    const Model *model = work->model;
    int size = model->head_dim, shared = model->heads / model->kv_heads, first, end;
    while ((end = take(work->team, work->step->count * model->kv_heads, &first)) > first)
        for (int unit = first; unit < end; unit++) {
            size_t row = unit / model->kv_heads, head = unit % model->kv_heads;
            size_t position = work->step->positions[row], slot = work->step->slots[row];
            const float *cosine = model->cosine ? model->cosine + position * (size / 2) : NULL;
            const float *sine = model->sine ? model->sine + position * (size / 2) : NULL;
            float *query = work->query + (row * model->heads + head * shared) * size;
            float *key = work->key + (row * model->kv_heads + head) * size;
            const float *value = work->value + (row * model->kv_heads + head) * size;
            for (int i = 0; i < shared; i++) {
                if (layer->query_gain)
                    PATH(normalise)(query + i * size, query + i * size, size, layer->query_gain, layer->query_shift, model);
                if (cosine) PATH(turn)(query + i * size, cosine, sine, size / 2);
            }
            if (layer->key_gain) PATH(normalise)(key, key, size, layer->key_gain, layer->key_shift, model);
            if (cosine) PATH(turn)(key, cosine, sine, size / 2);
            size_t start = ((place * model->slots + slot) * model->kv_heads + head) * model->length;
            size_t own = (start + position / 16 * 16) * size + position % 16, behind = (start + position) * size;
            if (model->key_scales) {
                model->key_scales[start + position] = PATH(narrow)(key, size, (int8_t *)model->keys + own, 16);
                model->value_scales[start + position] = PATH(narrow)(value, size, (int8_t *)model->values + behind, 1);
                continue;
            }
            uint16_t *keys = (uint16_t *)model->keys + own, *values = (uint16_t *)model->values + behind;
            for (int i = 0; i < size; i += LANES) {
                H half = PATH(to_half)(LOAD(key + i));
                for (int j = 0; j < LANES; j++) keys[(size_t)(i + j) * 16] = half[j];
                *(H *)(values + i) = PATH(to_half)(LOAD(value + i));
            }
        }
    meet(work->team);
}

// As many numbers from a place on, of keys or values that are int8 (`whole`) or float16.
static INLINE V PATH(numbers)(const void *all, size_t place, const int whole) {
    if (whole) return BYTES((const int8_t *)all + place);
    return HALVES((const uint16_t *)all + place);
}

// Up to `count` (1 or QUERIES) queries of one head at the keys and values they share, which begin at token `start`. All
// these lie far apart in memory: values are asked for while keys are compared, and then the keys of the next, at `next`.
static INLINE void PATH(attend)(const Model *model, size_t start, size_t next, const int count, const int whole,
                                const float *const *queries, const int32_t *starts, const int32_t *untils,
                                float *scores, float *const *outs) {
    int size = model->head_dim, low = starts[0], high = untils[0];
    size_t first = start * size, width = whole ? sizeof(int8_t) : sizeof(uint16_t);
    const char *values = model->values, *next_keys = (const char *)model->keys + next * size * width;
    for (int q = 1; q < count; q++) {
        low = starts[q] < low ? starts[q] : low;
        high = untils[q] > high ? untils[q] : high;
    }
    size_t stride = (size_t)model->length;
    for (int place = low / 16 * 16; place < high; place += LANES) {
        size_t key = first + (size_t)(place / 16 * 16) * size + place % 16;
        V found[QUERIES], scale = (V){} + model->scale;
        if (whole) scale *= LOAD(model->key_scales + start + place);
        EACH(QUERIES) for (int q = 0; q < count; q++) found[q] = (V){};
        for (int d = 0; d < size; d += 2) {
            __builtin_prefetch(values + (key + d * 16) * width);
            EACH(2) for (int e = d; e < d + 2; e++) {
                V numbers = PATH(numbers)(model->keys, key + e * 16, whole);
                EACH(QUERIES) for (int q = 0; q < count; q++) found[q] += queries[q][e] * numbers;
            }
        }
        EACH(QUERIES) for (int q = 0; q < count; q++) STORE(scores + q * stride + place, found[q] * scale);
    }
    float inverse[QUERIES];
    for (int q = 0; q < count; q++) {
        float *score = scores + q * stride, most = -INFINITY;
        int from = low / 16 * 16, to = (high + 15) / 16 * 16;
        for (int p = from; p < starts[q]; p++) score[p] = -INFINITY;
        for (int p = untils[q]; p < to; p++) score[p] = -INFINITY;
        for (int p = from; p < to; p += LANES) {
            float here = PATH(largest)(LOAD(score + p));
            most = here > most ? here : most;
        }
        V total = {};
        for (int p = from; p < to; p += LANES) {
            V x = LOAD(score + p);
            V chance = WHERE(x > -INFINITY, PATH(exponential)(x - most), (V){});
            STORE(score + p, whole ? chance * LOAD(model->value_scales + start + p) : chance);
            total += chance;
        }
        inverse[q] = 1.0f / PATH(sum)(total);
    }
    for (int d = 0; d < size; d += 2 * LANES) {
        V left[QUERIES], right[QUERIES];
        EACH(QUERIES) for (int q = 0; q < count; q++) left[q] = right[q] = (V){};
        for (int p = low; p < high; p++) {
            __builtin_prefetch(next_keys + ((size_t)p * size + d) * width);
            V a = PATH(numbers)(model->values, first + (size_t)p * size + d, whole);
            V b = PATH(numbers)(model->values, first + (size_t)p * size + d + LANES, whole);
            EACH(QUERIES) for (int q = 0; q < count; q++) {
                left[q] += scores[q * stride + p] * a;
                right[q] += scores[q * stride + p] * b;
            }
        }
        EACH(QUERIES) for (int q = 0; q < count; q++) {
            STORE(outs[q] + d, left[q] * inverse[q]);
            STORE(outs[q] + d + LANES, right[q] * inverse[q]);
        }
    }
}

#ifdef TILES
// What one thread attends with: keys and values of one head as tiles, and of 16 queries themselves, their scores, the
// chances they make of them, and what they find.
typedef struct {
    uint16_t *keys, *values, *queries, *chances;
    float *scores, *found;
    size_t room;  // from one query's scores to the next one's; multiples of a page would meet in a cache
} PATH(Desk);

static INLINE PATH(Desk) PATH(own_desk)(const Work *work, int thread) {
    size_t size = work->model->head_dim, room = attended_room(work->model);
    uint16_t *keys = (uint16_t *)(work->desks + thread * desk_size(work->model));
    uint16_t *values = keys + room * size, *queries = values + room * size, *chances = queries + ROWS * size;
    float *scores = (float *)(chances + ROWS * room), *found = scores + ROWS * (room + ROWS);
    return (PATH(Desk)){keys, values, queries, chances, scores, found, room + ROWS};
}

// Keys and values of a head, which begin at number `first`, as tiles: from token `low` to `high`, and after it zeros.
static INLINE void PATH(lay_out_tiles)(const Model *model, PATH(Desk) desk, size_t first, int low, int high,
                                       const int whole) {
    int size = model->head_dim;
    for (int p = low; p < high; p += ROWS)
        for (int d = 0; d < size; d += 2) {
            size_t from = first + (size_t)p * size + (size_t)d * ROWS;
            V even = PATH(numbers)(model->keys, from, whole), odd = PATH(numbers)(model->keys, from + ROWS, whole);
            PATH(put_pair)(desk.keys + (size_t)(p - low) * size + d / BLOCK * CELLS + d % BLOCK * ROWS, even, odd);
        }
    for (int p = low; p < high; p += BLOCK)
        for (int i = 0; i < BLOCK; i += 2)
            for (int d = 0; d < size; d += ROWS) {
                size_t from = first + (size_t)(p + i) * size + d;
                V even = p + i < high ? PATH(numbers)(model->values, from, whole) : (V){};
                V odd = p + i + 1 < high ? PATH(numbers)(model->values, from + size, whole) : (V){};
                PATH(put_pair)(desk.values + (size_t)(p - low) * size + d / ROWS * CELLS + i * ROWS, even, odd);
            }
}

// Scores of a query in its row of the desk become chances; returns one over their sum. It sees tokens from `start` to
// `until`, and the row begins with token `low`. head: where keys and values begin.
static INLINE float PATH(weigh)(const Model *model, PATH(Desk) desk, int query, size_t head, int start, int until,
                                int low, int high, const int whole) {
    float *scores = desk.scores + query * desk.room;
    const I lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    V most = (V){} - INFINITY, total = {};
    for (int p = low; p < high; p += LANES) {
        V x = LOAD(scores + p - low) * model->scale;
        if (whole) x *= LOAD(model->key_scales + head + p);
        x = WHERE((lanes + p >= start) & (lanes + p < until), x, (V){} - INFINITY);
        STORE(scores + p - low, x);
        most = WHERE(x > most, x, most);
    }
    float largest = PATH(largest)(most);
    int p = low;
    for (; p < high; p += LANES) {
        V x = LOAD(scores + p - low);
        V chance = WHERE(x > -INFINITY, PATH(exponential)(x - largest), (V){});
        total += chance;
        if (whole) chance = WHERE(x > -INFINITY, chance * LOAD(model->value_scales + head + p), (V){});
        STORE(scores + p - low, chance);
    }
    if ((p - low) % BLOCK) STORE(scores + p - low, (V){});
    uint16_t *own = desk.chances + query * BLOCK;
    for (int b = 0; b < p - low; b += BLOCK) PATH(to_bfloat)(scores + b, own + (size_t)b * ROWS);
    return 1.0f / PATH(sum)(total);
}

// Rows of a prompt at the keys and values of one head, 16 queries at a time. start: where those of the head begin.
static INLINE void PATH(attend_tiles)(const Work *work, int thread, int row, int rows, int head, size_t start,
                                      const int whole) {
    const Model *model = work->model;
    PATH(Desk) desk = PATH(own_desk)(work, thread);
    int size = model->head_dim, shared = model->heads / model->kv_heads, low = INT32_MAX, high = 0;
    for (int r = row; r < row + rows; r++) {
        int until = work->step->untils[r], from = first_seen(model, until);
        low = from < low ? from : low;
        high = until > high ? until : high;
    }
    low = low / BLOCK * BLOCK;
    PATH(lay_out_tiles)(model, desk, start * size, low, high, whole);
    for (int q = 0; q < rows * shared; q += ROWS) {
        int count = rows * shared - q < ROWS ? rows * shared - q : ROWS;
        float inverse[ROWS];
        for (int i = 0; i < count; i++) {
            size_t own = row + (q + i) / shared, among = head * shared + (q + i) % shared;
            const float *query = work->query + (own * model->heads + among) * size;
            for (int d = 0; d < size; d += BLOCK) PATH(to_bfloat)(query + d, desk.queries + d * ROWS + i * BLOCK);
        }
        PATH(scores)(desk.queries, desk.keys, size, high - low, desk.scores, desk.room);
        for (int i = 0; i < count; i++) {
            int until = work->step->untils[row + (q + i) / shared];
            inverse[i] = PATH(weigh)(model, desk, i, start, first_seen(model, until), until, low, high, whole);
        }
        PATH(gathered)(desk.chances, desk.values, size, high - low, desk.found);
        for (int i = 0; i < count; i++)
            for (int d = 0; d < size; d += BLOCK) {
                float out[BLOCK];
                for (int j = 0; j < BLOCK; j += LANES) STORE(out + j, LOAD(desk.found + i * size + d + j) * inverse[i]);
                int block = ((head * shared + (q + i) % shared) * size + d) / BLOCK;
                PATH(put)(work, &work->attended, row + (q + i) / shared, block, out);
            }
    }
}
#endif

static void PATH(attend_all)(const Work *work, int thread, size_t place) {
    const Model *model = work->model;
    const Step *step = work->step;
    int size = model->head_dim, shared = model->heads / model->kv_heads, first, end;
    int units = work->group_count * model->kv_heads;
    float *scores = work->scores + (size_t)thread * QUERIES * model->length;
    float out[QUERIES * size];
    while ((end = take(work->team, units, &first)) > first)
        for (int unit = first; unit < end; unit++) {
            int group = unit / model->kv_heads, head = unit % model->kv_heads;
            int row = work->groups[2 * group], queries = work->groups[2 * group + 1] * shared;
            size_t start = head_start(work, place, unit), next = head_start(work, place, unit + 1 < units ? unit + 1 : unit);
#ifdef TILES
            if (row >= work->written) {
                if (model->key_scales)
                    PATH(attend_tiles)(work, thread, row, queries / shared, head, start, 1);
                else
                    PATH(attend_tiles)(work, thread, row, queries / shared, head, start, 0);
                continue;
            }
#endif
            for (int q = 0; q < queries; q += QUERIES) {
                const float *asked[QUERIES];
                float *outs[QUERIES];
                int32_t starts[QUERIES], untils[QUERIES], count = queries - q < QUERIES ? queries - q : QUERIES;
                for (int i = 0; i < QUERIES; i++) {  // where fewer are left, the last one again and again
                    int j = q + (i < count ? i : count - 1), r = row + j / shared;
                    asked[i] = work->query + ((size_t)r * model->heads + head * shared + j % shared) * size;
                    outs[i] = out + i * size;
                    untils[i] = step->untils[r];
                    starts[i] = first_seen(model, untils[i]);
                }
                if (count == 1 && model->key_scales)
                    PATH(attend)(model, start, next, 1, 1, asked, starts, untils, scores, outs);
                else if (count == 1)
                    PATH(attend)(model, start, next, 1, 0, asked, starts, untils, scores, outs);
                else if (model->key_scales)
                    PATH(attend)(model, start, next, QUERIES, 1, asked, starts, untils, scores, outs);
                else
                    PATH(attend)(model, start, next, QUERIES, 0, asked, starts, untils, scores, outs);
                for (int i = 0; i < count; i++) {
                    int j = q + i, block = (head * shared + j % shared) * size / BLOCK;
                    for (int b = 0; b < size / BLOCK; b++)
                        PATH(put)(work, &work->attended, row + j / shared, block + b, outs[i] + b * BLOCK);
                }
            }
        }
    meet(work->team);
}

// 32 numbers of the wide half of a feed-forward, each half of them from a tile. gates: NULL, where there are none.
static INLINE void PATH(widened)(const Work *work, int row, int block, const float *const *ups,
                                 const float *const *gates) {
    float out[BLOCK];
    for (int j = 0; j < BLOCK; j += LANES) {
        V up = LOAD(ups[j / ROWS] + j % ROWS);
        STORE(out + j, gates ? PATH(activated)(LOAD(gates[j / ROWS] + j % ROWS), work->model->activation) * up
                             : PATH(activated)(up, work->model->activation));
    }
    PATH(put)(work, &work->wide, row, block, out);
}

#ifdef TILES
// One block of 32 for the rows of prompts.
static void PATH(widen_tiles)(const Work *work, int thread, const Layer *layer, int block) {
    const Matrix *parts[] = {&layer->up, &layer->gate};
    int gated = layer->gate.quants != NULL, rows = work->step->count - work->written;
    size_t tile = (size_t)work->narrow.count * CELLS;
    uint16_t *weights = PATH(own_weights)(work, thread);
    for (int i = 0; i < 2 * (1 + gated); i++) PATH(unpack)(parts[i / 2], 2 * block + i % 2, weights + i * tile);
    for (int r = 0; r < rows; r += 2 * ROWS) {
        _Alignas(64) float y[2][2][2][ROWS][ROWS];
        for (int part = 0; part <= gated; part++) {
            PATH(sums)(&work->narrow, r / ROWS, rows - r > ROWS ? 2 : 1, weights + 2 * part * tile, 2, y[part]);
            if (!parts[part]->bias) continue;
            for (int i = 0; i < 4 * ROWS; i++) {
                float *sum = y[part][i / (2 * ROWS)][i / ROWS % 2][i % ROWS];
                STORE(sum, LOAD(sum) + LOAD(parts[part]->bias + (2 * block + i / ROWS % 2) * ROWS));
            }
        }
        for (int i = 0; i < 2 * ROWS && r + i < rows; i++) {
            const float *halves[2][2];
            for (int part = 0; part < 2; part++)
                for (int j = 0; j < 2; j++) halves[part][j] = y[part][i / ROWS][j][i % ROWS];
            PATH(widened)(work, work->written + r + i, block, halves[0], gated ? halves[1] : NULL);
        }
    }
}
#endif

// The wide half of a feed-forward, a block of 32 at a time, which then is what the narrow half multiplies.
static void PATH(widen)(const Work *work, int thread, const Layer *layer) {
    int rows = work->written, gated = layer->gate.quants != NULL, first, end;
    while ((end = take(work->team, work->wide.count, &first)) > first)
        for (int b = first; b < end; b++) {
            for (int r = 0; r < rows;) {
                float up[2][AT_ONCE][ROWS], gate[2][AT_ONCE][ROWS];
                int count = 0;
                for (int half = 0; half < 2; half++) {
                    count = PATH(outputs)(&layer->up, 2 * b + half, &work->narrow, r, rows, up[half]);
                    if (gated) PATH(outputs)(&layer->gate, 2 * b + half, &work->narrow, r, rows, gate[half]);
                }
                for (int i = 0; i < count; i++, r++)
                    PATH(widened)(work, r, b, (const float *[]){up[0][i], up[1][i]},
                                  gated ? (const float *[]){gate[0][i], gate[1][i]} : NULL);
            }
#ifdef TILES
            if (work->step->count > rows) PATH(widen_tiles)(work, thread, layer, b);
#endif
        }
    (void)thread;
    meet(work->team);
}

// The last norm, and the head for the rows that are wanted.
static void PATH(leave)(const Work *work) {
    const Model *model = work->model;
    const Step *step = work->step;
    Entered narrow = work->narrow;
    int filled = narrow.count * BLOCK, first, end;
    while ((end = take(work->team, step->wanted, &first)) > first)
        for (int i = first; i < end; i++) {
            float *x = step->states + (size_t)step->rows[i] * filled;
            if (model->gain) PATH(normalise)(x, x, model->width, model->gain, model->shift, model);
            for (int b = 0; b < narrow.count; b++) PATH(quantise)(x + b * BLOCK, narrow.blocks + (size_t)i * narrow.count + b);
        }
    meet(work->team);
    if (!model->head.quants) return;
    while ((end = take(work->team, model->head.tiles, &first)) > first)
        PATH(multiply)(&model->head, &narrow, step->wanted, step->logits, (size_t)model->head.tiles * ROWS, 0, first,
                       end);
    meet(work->team);
}

static void PATH(step)(const Work *work, int thread) {
    const Model *model = work->model;
    for (int l = 0; l < model->depth; l++) {
        const Layer *layer = model->layers + l;
        const Layer *before = l ? layer - 1 : NULL;
        if (model->norm_first)
            PATH(enter)(work, thread, layer->attention_gain, layer->attention_shift);
        else
            PATH(enter)(work, thread, before ? before->feed_gain : NULL, before ? before->feed_shift : NULL);
        PATH(look_for)(work, thread, layer);
        PATH(remember)(work, layer, model->passing ? 0 : l);
        PATH(attend_all)(work, thread, model->passing ? 0 : l);
        PATH(project)(work, thread, &layer->out, &work->attended);
        if (model->norm_first)
            PATH(enter)(work, thread, layer->feed_gain, layer->feed_shift);
        else
            PATH(enter)(work, thread, layer->attention_gain, layer->attention_shift);
        PATH(widen)(work, thread, layer);
        PATH(project)(work, thread, &layer->down, &work->wide);
    }
    PATH(leave)(work);
}
