// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that runs on the CPU and needs no optional library (format/xtensor.hpp, format/jpeg_turbo.hpp,
// device/parallel/mpi.hpp). Include single headers instead where compile time matters.

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/model.hpp>
#include <promptkd/clip/text_ensemble.hpp>
#include <promptkd/core/heap.hpp>
#include <promptkd/core/micro_batches.hpp>
#include <promptkd/data/describe.hpp>
#include <promptkd/data/image_inputs.hpp>
#include <promptkd/data/memory_images.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/deploy/huggingface_folder.hpp>
#include <promptkd/deploy/onnx_model.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/classifier_pool.hpp>
#include <promptkd/evaluate/learner.hpp>
#include <promptkd/evaluate/metrics_json.hpp>
#include <promptkd/evaluate/zero_shot_classifier.hpp>
#include <promptkd/experiment/box_evaluation.hpp>
#include <promptkd/experiment/class_extension.hpp>
#include <promptkd/experiment/clip_classification.hpp>
#include <promptkd/experiment/dense/distillation.hpp>
#include <promptkd/experiment/detection.hpp>
#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/encoding.hpp>
#include <promptkd/experiment/inspection.hpp>
#include <promptkd/experiment/patch_encoding.hpp>
#include <promptkd/experiment/report/dense_page.hpp>
#include <promptkd/experiment/report/mean_losses.hpp>
#include <promptkd/experiment/report/pictures.hpp>
#include <promptkd/experiment/reproduction.hpp>
#include <promptkd/experiment/scene_files.hpp>
#include <promptkd/experiment/seeds.hpp>
#include <promptkd/experiment/student_evaluation.hpp>
#include <promptkd/experiment/tower_description.hpp>
#include <promptkd/experiment/training.hpp>
#include <promptkd/experiment/zero_shot.hpp>
#include <promptkd/format/image.hpp>
#include <promptkd/format/npy.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/image/preprocess.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/learner/run.hpp>
#include <promptkd/text/template_sets.hpp>
#include <promptkd/text/tokenizer.hpp>
