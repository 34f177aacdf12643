/* What PyTorch compiles as it runs, such as the absolute value of complex numbers: NVIDIA's compiler, which here only
 * keeps a name, and the driver's modules, whose functions are launched like any other kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "card.h"

#define SUCCESS 0
#define IMAGE "null card"

struct program {
    char name[256];
};

int nvrtcVersion(int *major, int *minor) {
    *major = CUDART_VERSION / 1000;
    *minor = CUDART_VERSION / 10 % 100;
    return SUCCESS;
}

int nvrtcCreateProgram(struct program **out, const char *source, const char *name, int headers,
                       const char *const *texts, const char *const *names) {
    *out = calloc(1, sizeof **out);
    return SUCCESS;
}

int nvrtcDestroyProgram(struct program **program) {
    free(*program);
    *program = NULL;
    return SUCCESS;
}

int nvrtcAddNameExpression(struct program *program, const char *expression) {
    snprintf(program->name, sizeof program->name, "compiled: %s", expression);
    return SUCCESS;
}

int nvrtcCompileProgram(struct program *program, int options, const char *const *texts) {
    return SUCCESS;
}

int nvrtcGetLoweredName(struct program *program, const char *expression, const char **name) {
    *name = program->name;
    return SUCCESS;
}

int nvrtcGetProgramLogSize(struct program *program, size_t *bytes) {
    *bytes = 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(struct program *program, char *text) {
    *text = 0;
    return SUCCESS;
}

#define IMAGE_OF(kind) \
    int nvrtcGet##kind##Size(struct program *program, size_t *bytes) { \
        *bytes = sizeof IMAGE; \
        return SUCCESS; \
    } \
    int nvrtcGet##kind(struct program *program, char *image) { \
        memcpy(image, IMAGE, sizeof IMAGE); \
        return SUCCESS; \
    }
IMAGE_OF(PTX)
IMAGE_OF(CUBIN)

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    *module = (CUmodule)IMAGE;
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
    return CUDA_SUCCESS;
}

/* A function is its name; they are as few as PyTorch compiles. */
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    *function = (CUfunction)strdup(name);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned bytes, CUstream stream, void **arguments,
                        void **extra) {
    return (CUresult)launch_named((const char *)function, stream);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t bytes) {
    return (CUresult)cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, bytes);
}
