#include "stages/run.h"

#include <ATen/Version.h>
#include <torch/version.h>
#include <unistd.h>

#include <chrono>
#include <iterator>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/signals.h"
#include "dist/process_group.h"
#include "report/report.h"

namespace attar {

Json code_versions() { return {{"attar", ATTAR_VERSION}, {"libtorch", TORCH_VERSION}, {"compiler", __VERSION__}}; }

namespace {

/// Kinds whose work the ranks share; the others are rank 0's alone.
bool shared_by_ranks(const std::string& kind) {
  return kind == "distill" || kind == "synthesize" || kind == "prune" || kind == "calibrate" || kind == "quantize";
}

/// A further rank's part of a stage: what it would write goes to a scratch folder that disappears.
void follow(StageRun& run, const std::string& kind, const Json& configuration, ProcessGroup& group) {
  if (shared_by_ranks(kind)) {
    AtomicFolder scratch(fs::temp_directory_path() / str("attar-rank-", group.rank(), "-", ::getpid()));
    run.out = scratch.path();
    run_stage(kind, run, configuration);
  }
  group.barrier();
  group.barrier();
}

/// Beside a stage's folder: what a killed run goes on from.
fs::path work_folder(const fs::path& place) { return place.parent_path() / ("." + place.filename().string() + ".work"); }

/// Runs one stage into place: result under a temporary name, state in a work folder beside it, manifest last. Only rank 0 writes.
/// `file`: all that is wanted is the exported file, put there; no artifact is left at `place`, so nothing is hashed for a manifest.
void execute(StageRun& run, const std::string& kind, const Json& configuration, const Json& inputs, const fs::path& place,
             const fs::path* file = nullptr) {
  const auto started = std::chrono::steady_clock::now();
  const auto group = process_group_from_environment();
  run.work = work_folder(place);
  if (group->rank() > 0) {
    group->barrier();
    return follow(run, kind, configuration, *group);
  }
  // State of another configuration is of no use; what it belongs to is written down first.
  const fs::path stamp = run.work / "key";
  if (fs::exists(run.work) && (!fs::exists(stamp) || read_file(stamp) != run.key)) fs::remove_all(run.work);
  make_folder(run.work);
  if (!fs::exists(stamp)) write_file(stamp, run.key);
  AtomicFolder folder(place);
  run.out = folder.path();
  try {
    group->barrier();
    run_stage(kind, run, configuration);
    group->barrier();
  } catch (const Error&) {
    // A stage that has kept nothing to go on from leaves no trace.
    std::error_code ignored;
    if (std::distance(fs::directory_iterator(run.work, ignored), fs::directory_iterator()) <= 1) fs::remove_all(run.work, ignored);
    throw;
  }
  if (file) {
    fs::rename(run.out / "model.gguf", *file);
    fs::remove_all(run.work);
    return group->barrier();
  }
  Manifest manifest;
  manifest.kind = kind;
  manifest.key = run.key;
  manifest.name = run.id;
  manifest.configuration = configuration;
  manifest.inputs = inputs;
  manifest.facts = run.facts;
  manifest.seed = run.seed;
  manifest.code = code_versions();
  manifest.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  write_manifest(run.out, std::move(manifest));
  folder.commit();
  fs::remove_all(run.work);
  group->barrier();
}

/// Routers are made from a report; once they are there it is written again with them, into a new folder that takes the old one's place whole.
void show_routers(const fs::path& run_folder, const Json& stages, const fs::path& report) {
  Json whole = read_json(report / "report.json");
  Json routers = routers_of(run_folder, stages, report.filename().string());
  if (routers == whole.value("routers", Json::object())) return;
  whole["routers"] = std::move(routers);
  Manifest manifest = read_manifest(report);
  AtomicFolder folder(report);
  fs::copy(report, folder.path(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  write_report(whole, {}, folder.path());
  write_manifest(folder.path(), std::move(manifest));
  folder.commit();
}

}  // namespace

RunOutcome run_recipe(const Recipe& recipe, const RunOptions& options) {
  RunOutcome outcome;
  outcome.folder = options.out.empty() ? fs::path("runs") / recipe.name : options.out;
  make_folder(outcome.folder);
  const auto group = process_group_from_environment();
  std::optional<FolderLock> lock;
  if (group->rank() == 0) {
    lock.emplace(outcome.folder);
    remove_leftovers(outcome.folder);
    write_json(outcome.folder / "recipe.json", recipe.effective);
  }
  group->barrier();
  int64_t number = 0;
  for (const Stage& stage : recipe.stages) {
    ++number;
    const fs::path place = outcome.folder / stage.id;
    if (stage.kind == "evaluate") outcome.report = place;
    std::string reason;
    if (stage_state(stage, outcome.folder, reason) == StageState::done) {
      // A run that was killed after its stage was in place left this behind.
      std::error_code ignored;
      fs::remove_all(work_folder(place), ignored);
      ++outcome.skipped;
      log_debug(stage.id + ": done before");
      continue;
    }
    log_info(str("[", number, "/", recipe.stages.size(), "] ", stage.id, " (", stage.kind, "): ", reason));
    StageRun run;
    run.id = stage.id;
    run.label = stage.id;
    run.seed = stage.seed.value_or(recipe.seed);
    run.key = stage.key;
    run.task = recipe.task;
    run.base = recipe.file.parent_path();
    run.run_folder = outcome.folder;
    run.device = options.device;
    run.license = recipe.license;
    run.base_model = recipe.base_model;
    run.recipe = &recipe;
    Json inputs = Json::object();
    for (const Reference& r : stage.references) {
      run.inputs[r.key] = r.stage.empty() ? r.path : outcome.folder / r.stage;
      run.names[r.key] = r.value;
      inputs[r.key] = {{"name", r.value}, {"key", r.stage.empty() ? "" : recipe.find(r.stage)->key}};
    }
    execute(run, stage.kind, stage.effective, inputs, place);
    ++outcome.ran;
    stop_if_asked();
  }
  if (!outcome.report.empty()) {
    if (group->rank() == 0) show_routers(outcome.folder, recipe.effective.value("stages", Json::object()), outcome.report);
    group->barrier();
    outcome.gates_passed = read_json(outcome.report / "report.json").value("verdict", "") != "fail";
  }
  return outcome;
}

void run_lone_stage(const LoneStage& lone) {
  // A recipe of one stage: the same checks, keys and resumption as in a run.
  Json stage = lone.configuration;
  stage["kind"] = lone.kind;
  Json root = {{"name", "tool"}, {"seed", lone.seed}, {"stages", {{"result", stage}}}};
  if (lone.task) root["task"] = fs::absolute(*lone.task).string();
  const fs::path parent = fs::absolute(lone.out).lexically_normal();
  make_folder(parent.parent_path().empty() ? fs::path(".") : parent.parent_path());
  const Recipe recipe = recipe_from_node(from_json(root), fs::current_path() / "command line");
  const Stage& only = recipe.stages.at(0);
  StageRun run;
  run.id = "result";
  run.label = lone.kind;
  run.seed = recipe.seed;
  run.key = only.key;
  run.task = recipe.task;
  run.base = fs::current_path();
  run.device = lone.device;
  Json inputs = Json::object();
  for (const Reference& r : only.references) {
    run.inputs[r.key] = r.path;
    run.names[r.key] = r.value;
    inputs[r.key] = {{"name", r.value}};
  }
  const fs::path place = parent.filename().empty() ? parent.parent_path() : parent;
  // One file is asked for: the artifact's folder lives only until its file is in place.
  if (lone.kind == "export" && only.effective["format"] == "gguf") {
    check(!fs::is_directory(place), place.string(), "a file to write", "a folder", "name the file: --out " + (place / "model.gguf").string());
    const fs::path folder = place.parent_path() / ("." + place.filename().string() + ".export");
    return execute(run, lone.kind, only.effective, inputs, folder, &place);
  }
  if (fs::exists(place) && !fs::exists(place / "manifest.json"))
    check(fs::is_directory(place) && fs::is_empty(place), place.string(), "a new or empty folder, or an artifact to replace", "something else");
  if (fs::exists(place / "manifest.json")) {
    try {
      if (read_manifest(place).key == only.key && verify_manifest(place, true).empty())
        return log_info(place.string() + ": done before, nothing to do");
    } catch (const Error&) {
      log_warn(place.string() + " holds an artifact that cannot be read; it is made again");
    }
  }
  execute(run, lone.kind, only.effective, inputs, place);
}

}  // namespace attar
