/* SPDX-License-Identifier: Apache-2.0 */
/* classify BUNDLE IMAGE...: the classes of images through promptkd.h, as a program in C would ask; then every misuse
 * that must end in a message. Prints a line an image, FILE and the probabilities. */
#include <promptkd/promptkd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void check(int good, const char* what) {
    if (good) return;
    printf("FAILED: %s (last error: '%s')\n", what, promptkd_last_error());
    ++failures;
}

static void* read_all(const char* path, size_t* size) {
    FILE* file = fopen(path, "rb");
    char* bytes = NULL;
    long length;
    if (!file || fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0) exit(3);
    rewind(file);
    bytes = malloc((size_t)length + 1);
    if (!bytes || fread(bytes, 1, (size_t)length, file) != (size_t)length) exit(3);
    fclose(file);
    *size = (size_t)length;
    return bytes;
}

/* Whether the last call failed with a message that holds `text`. */
static void refused(int failed, const char* text) {
    check(failed, text);
    check(strstr(promptkd_last_error(), text) != NULL, text);
}

static void misuse(promptkd_student* student, const char* bundle) {
    unsigned char pixels[12] = {0};
    float p[100];
    promptkd_image image = {pixels, sizeof pixels, 2, 2, 0};
    refused(promptkd_open(NULL, 1, 1) == NULL, "path is null");
    refused(promptkd_open("/nowhere/b.safetensors", 1, 1) == NULL, "/nowhere/b.safetensors");
    refused(promptkd_open(bundle, -1, 1) == NULL, "threads is -1");
    refused(promptkd_open(bundle, 1, 0) == NULL, "batch is 0");
    refused(promptkd_open_bytes("no bundle", 9, 1, 1) == NULL, "the bundle in memory");
    refused(promptkd_classes(NULL) == -1, "student is null");
    refused(promptkd_class_name(student, -1) == NULL, "class -1");
    refused(promptkd_class_name(student, promptkd_classes(student)) == NULL, "class ");
    refused(promptkd_classify(student, &image, -1, p) == -1, "count is -1");
    refused(promptkd_classify(student, NULL, 1, p) == -1, "null");
    image.size = 11;
    refused(promptkd_classify(student, &image, 1, p) == -1, "11 bytes are too few");
    image.size = 12;
    image.stride = 5;
    refused(promptkd_classify(student, &image, 1, p) == -1, "stand 5 bytes apart");
    image.stride = (size_t)-1;
    refused(promptkd_classify(student, &image, 1, p) == -1, "too few");
    image.stride = 0;
    image.height = -2;
    refused(promptkd_classify(student, &image, 1, p) == -1, "image 0: 2 x -2 pixels");
    image.width = 0;
    refused(promptkd_classify(student, &image, 1, p) == -1, "image 0: ");
    check(promptkd_classify(student, NULL, 0, NULL) == 0, "no images are fine");
    check(strcmp(promptkd_last_error(), "") == 0, "success leaves no error");
    promptkd_close(NULL);
}

int main(int argc, char** argv) {
    size_t size;
    int i, k, count = argc - 2, classes;
    void* bytes;
    promptkd_image* images = calloc((size_t)count + 1, sizeof *images);
    promptkd_student *student, *from_memory;
    float *p, *q;
    if (argc < 3 || !images) return 2;
    student = promptkd_open(argv[1], 1, 4);
    check(student != NULL, "open");
    if (!student) return 1;
    bytes = read_all(argv[1], &size);
    from_memory = promptkd_open_bytes(bytes, size, 2, 1);
    free(bytes);
    check(from_memory != NULL, "open from memory");
    classes = promptkd_classes(student);
    p = calloc((size_t)(count * classes), sizeof *p);
    q = calloc((size_t)(count * classes), sizeof *q);
    for (i = 0; i < count; ++i) images[i].bytes = read_all(argv[i + 2], &images[i].size);
    check(promptkd_classify(student, images, count, p) == 0, "classify");
    check(promptkd_classify(from_memory, images, count, q) == 0, "classify, the bundle from memory");
    for (i = 0; i < count * classes; ++i) check(p[i] - q[i] < 1e-5f && q[i] - p[i] < 1e-5f, "both agree");
    for (i = 0; i < count; ++i) {
        printf("%s", argv[i + 2]);
        for (k = 0; k < classes; ++k) printf("\t%s\t%.7f", promptkd_class_name(student, k), p[i * classes + k]);
        printf("\n");
    }
    misuse(student, argv[1]);
    check(promptkd_resolution(student) == 28, "resolution");
    promptkd_close(student);
    promptkd_close(from_memory);
    return failures != 0;
}
