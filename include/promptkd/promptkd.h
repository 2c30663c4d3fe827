/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROMPTKD_H
#define PROMPTKD_H

#include <stddef.h>

/*
 * Distilled students for programs in C and in every language that calls C. The shared library promptkd_c defines it.
 *
 * Errors: a function that can fail says what it returns then; promptkd_last_error() gives the reason in one line. No
 * exception leaves a function, and no argument that is a null pointer or out of range ends the program.
 *
 * Threads: every function may be called from any thread. Calls with one student wait for each other; for several
 * images at a time open the student once a thread (the weights of a file are shared between them, since it is mapped).
 */

#if defined(_WIN32)
#define PROMPTKD_API
#else
#define PROMPTKD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A student that was read from a bundle. */
typedef struct promptkd_student promptkd_student;

/*
 * An image: an encoded file in memory (JPEG, PNG, BMP, GIF; WebP and TIFF where the library was built with them), with
 * width 0; or width * height pixels of red, green and blue bytes, `stride` bytes from row to row (0: 3 * width).
 */
typedef struct promptkd_image {
    const void* bytes;
    size_t size; /* bytes there are */
    int width;   /* 0: an encoded file */
    int height;
    size_t stride;
} promptkd_image;

/* "major.minor.patch". Never fails; the text is the library's. */
PROMPTKD_API const char* promptkd_version(void);

/* Why the last call in this thread failed, in one line; "" where it did not. Valid until the thread's next call. */
PROMPTKD_API const char* promptkd_last_error(void);

/*
 * Opens the bundle in the file `path`. `threads`: of the arithmetic, 0 for all processors. `batch`: images that are
 * computed together, 1 for one after the other. Returns null on failure. Close what you opened with promptkd_close().
 */
PROMPTKD_API promptkd_student* promptkd_open(const char* path, int threads, int batch);

/* The same of the `size` bytes of a bundle in memory, which are copied. */
PROMPTKD_API promptkd_student* promptkd_open_bytes(const void* bytes, size_t size, int threads, int batch);

/* Frees a student. Null is allowed. No other call may use it at the same time or afterwards. */
PROMPTKD_API void promptkd_close(promptkd_student* student);

/* Number of classes; -1 on failure. */
PROMPTKD_API int promptkd_classes(const promptkd_student* student);

/* Name of class `index` in UTF-8, equal names told apart; null on failure. The text is the student's. */
PROMPTKD_API const char* promptkd_class_name(const promptkd_student* student, int index);

/* Pixels a side to which images are resized and cropped; -1 on failure. */
PROMPTKD_API int promptkd_resolution(const promptkd_student* student);

/*
 * Writes the probability of every class for `count` images into `probabilities` (count * promptkd_classes() floats,
 * image by image). Images may have any size: they are resized and cropped as the bundle says. Returns 0, or -1 on
 * failure, and then `probabilities` is as it was; the message names the image by its index.
 */
PROMPTKD_API int promptkd_classify(promptkd_student* student, const promptkd_image* images, int count,
                                   float* probabilities);

#ifdef __cplusplus
}
#endif

#endif
