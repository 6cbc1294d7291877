#pragma once
// Configuration of every stage kind: the keys users write in recipes and, flattened, the flags of the tools.
#include "spec/data_config.h"
#include "spec/model_stage_configs.h"
#include "spec/output_stage_configs.h"
#include "spec/teacher_stage_configs.h"
#include "spec/train_config.h"
