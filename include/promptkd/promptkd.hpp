// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything that runs on the CPU. Include single headers instead where compile time matters.

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/preprocess.hpp>
#include <promptkd/clip/tokenizer.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/io/convert.hpp>
#include <promptkd/io/image.hpp>
#include <promptkd/io/safetensors.hpp>
#include <promptkd/io/weights_file.hpp>
#include <promptkd/prompt/context.hpp>
#include <promptkd/prompt/independent.hpp>
#include <promptkd/prompt/maple_checkpoint.hpp>
#include <promptkd/prompt/multimodal.hpp>
#include <promptkd/train/bundle.hpp>
#include <promptkd/train/class_texts.hpp>
#include <promptkd/train/class_vectors.hpp>
#include <promptkd/train/conditional_trainer.hpp>
#include <promptkd/train/distillation_run.hpp>
#include <promptkd/train/learner_run.hpp>
