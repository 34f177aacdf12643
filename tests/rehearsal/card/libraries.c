/* cuBLAS and cuFFT: handles that hold a stream, work that is counted. Their headers come in packages of 400 MB
 * and more, so the signatures here are by hand: handles as structures, enumerations as int.
 */
#include <stdlib.h>
#include <string.h>

#include <library_types.h>

#include "card.h"

#define SUCCESS 0 /* of both */
#define EXECUTION_FAILED 13 /* of cuBLAS */
#define FFT_EXECUTION_FAILED 6

cudaError_t launch_product(const char *name, int type, cudaStream_t stream) {
    count(type == CUDA_R_32F    ? COUNT_products_fp32
          : type == CUDA_R_16F  ? COUNT_products_fp16
          : type == CUDA_R_16BF ? COUNT_products_bf16
                                : COUNT_products_other);
    return launch_named(name, stream);
}

/* ---- cuBLAS ---- */

struct handle {
    cudaStream_t stream;
    int math, pointers;
};

int cublasCreate_v2(struct handle **out) {
    *out = calloc(1, sizeof **out);
    return SUCCESS;
}

int cublasDestroy_v2(struct handle *handle) {
    free(handle);
    return SUCCESS;
}

int cublasSetStream_v2(struct handle *handle, cudaStream_t stream) {
    handle->stream = stream;
    return SUCCESS;
}

int cublasSetWorkspace_v2(struct handle *handle, void *workspace, size_t bytes) {
    return SUCCESS;
}

int cublasGetMathMode(struct handle *handle, int *mode) {
    *mode = handle->math;
    return SUCCESS;
}

int cublasSetMathMode(struct handle *handle, int mode) {
    handle->math = mode;
    return SUCCESS;
}

int cublasGetPointerMode_v2(struct handle *handle, int *mode) {
    *mode = handle->pointers;
    return SUCCESS;
}

int cublasSetPointerMode_v2(struct handle *handle, int mode) {
    handle->pointers = mode;
    return SUCCESS;
}

int cublasSetSmCountTarget(struct handle *handle, int count) {
    return SUCCESS;
}

static int multiplied(struct handle *handle, const char *name, int type) {
    return launch_product(name, type, handle->stream) ? EXECUTION_FAILED : SUCCESS;
}

/* The name says the type. */
#define PRODUCT(name, type) \
    int name(struct handle *handle, ...) { \
        return multiplied(handle, #name, type); \
    }

PRODUCT(cublasSgemm_v2, CUDA_R_32F)
PRODUCT(cublasSgemmStridedBatched, CUDA_R_32F)
PRODUCT(cublasSgemv_v2, CUDA_R_32F)
PRODUCT(cublasSdot_v2, CUDA_R_32F)
PRODUCT(cublasDgemm_v2, CUDA_R_64F)
PRODUCT(cublasDgemmStridedBatched, CUDA_R_64F)
PRODUCT(cublasDgemv_v2, CUDA_R_64F)
PRODUCT(cublasDdot_v2, CUDA_R_64F)

int cublasGemmEx(struct handle *handle, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha,
                 const void *a, int type, ...) {
    return multiplied(handle, "cublasGemmEx", type);
}

int cublasSgemmEx(struct handle *handle, int transpose_a, int transpose_b, int m, int n, int k, const float *alpha,
                  const void *a, int type, ...) {
    return multiplied(handle, "cublasSgemmEx", type);
}

int cublasGemmStridedBatchedEx(struct handle *handle, int transpose_a, int transpose_b, int m, int n, int k,
                               const void *alpha, const void *a, int type, ...) {
    return multiplied(handle, "cublasGemmStridedBatchedEx", type);
}

int cublasDotEx(struct handle *handle, int n, const void *x, int type, ...) {
    return multiplied(handle, "cublasDotEx", type);
}

/* ---- cuBLASLt: descriptions are read by nobody but here, for the type of a matrix ---- */

struct description {
    int type;
};

#define DESCRIPTION(name, ...) \
    int cublasLt##name##Create(struct description **out, ##__VA_ARGS__) { \
        *out = calloc(1, sizeof **out); \
        return SUCCESS; \
    } \
    DESCRIBED(name)

#define DESCRIBED(name) \
    int cublasLt##name##Destroy(struct description *description) { \
        free(description); \
        return SUCCESS; \
    } \
    int cublasLt##name##SetAttribute(struct description *description, int which, const void *value, size_t bytes) { \
        return SUCCESS; \
    }

DESCRIPTION(MatmulDesc, int compute, int scale)
DESCRIPTION(MatmulPreference)
DESCRIBED(MatrixLayout)

int cublasLtMatrixLayoutCreate(struct description **out, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    *out = calloc(1, sizeof **out);
    (*out)->type = type;
    return SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return 130100;
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, struct description *product, struct description *a,
                                   struct description *b, struct description *c, struct description *d,
                                   struct description *preference, int wanted, void *results, int *found) {
    *found = wanted > 0;
    memset(results, 0, 96); /* one result: no workspace, status "success" */
    return SUCCESS;
}

int cublasLtMatmul(void *handle, struct description *described, const void *alpha, const void *a,
                   struct description *layout_a, const void *b, struct description *layout_b, const void *beta,
                   const void *c, struct description *layout_c, void *d, struct description *layout_d,
                   const void *algorithm, void *workspace, size_t bytes, cudaStream_t stream) {
    return launch_product("cublasLtMatmul", layout_a->type, stream) ? EXECUTION_FAILED : SUCCESS;
}

/* ---- cuFFT ---- */

#define PLANS 4096

static cudaStream_t plans[PLANS];
static int plan_count;

int cufftCreate(int *plan) {
    *plan = __atomic_fetch_add(&plan_count, 1, __ATOMIC_RELAXED) % PLANS;
    return SUCCESS;
}

int cufftDestroy(int plan) {
    return SUCCESS;
}

int cufftSetAutoAllocation(int plan, int automatic) {
    return SUCCESS;
}

int cufftSetStream(int plan, cudaStream_t stream) {
    plans[plan] = stream;
    return SUCCESS;
}

int cufftSetWorkArea(int plan, void *workspace) {
    return SUCCESS;
}

int cufftXtMakePlanMany(int plan, int rank, long long *n, long long *in_embed, long long in_stride,
                        long long in_distance, int in_type, long long *out_embed, long long out_stride,
                        long long out_distance, int out_type, long long batch, size_t *workspace, int type) {
    *workspace = 0;
    return SUCCESS;
}

int cufftXtExec(int plan, void *in, void *out, int direction) {
    return launch_named("cufftXtExec", plans[plan]) ? FFT_EXECUTION_FAILED : SUCCESS;
}
