"use strict";
// The page in the browser's language: Chinese, or English.
const chinese = navigator.language.toLowerCase().startsWith("zh");
const TEXTS = {
  title: "视频剪辑", video: "视频", from: "开始时间（秒）", to: "结束时间（秒）", create: "创建任务", task: "任务", part: "片段",
  status: "状态", began: "开始", ended: "结束", empty: "还没有任务。", input: "原视频", output: "结果", download: "下载", close: "关闭",
  run: "执行", stop: "停止", delete: "删除", show: "查看结果", sure: "确定删除该任务吗？",
};
const ENGLISH = { run: "Run", stop: "Stop", delete: "Delete", show: "Show", sure: "Delete this task?" };
const STATUS = {
  "未开始": "not started", "未知状态": "unknown", "等待执行": "waiting", "执行中": "running", "执行成功": "done", "执行失败": "failed",
  "已暂停": "stopped",
};
const say = (name) => chinese ? TEXTS[name] : ENGLISH[name];
const $ = (id) => document.getElementById(id);
const SIZE = 10;
let page = 1, total = 0;

if (chinese) {
  document.documentElement.lang = "zh";
  document.title = TEXTS.title;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = TEXTS[each.dataset.text];
}

async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const said = await answer.json();
  if (said.ErrorCode !== 0) $("message").textContent = said.ErrorMessage || said.error || String(answer.status);
  return said;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

const download = (path) => "/Download?path=" + encodeURIComponent(path);

function show_result(task) {
  $("in").src = download(task.InputVideo);
  $("out").src = download(task.OutputVideo);
  $("download").href = download(task.OutputVideo);
  $("result").showModal();
}

function act(path, task) {
  return async () => {
    $("message").textContent = "";
    await ask(path, { TaskID: task.TaskId });
    await list();
  };
}

function row_of(task) {
  const row = document.createElement("tr");
  const cell = (...content) => {
    const made = document.createElement("td");
    made.append(...content);
    row.append(made);
    return made;
  };
  cell(task.TaskId);
  cell(task.InputVideo.replace(/^.*\//, ""));
  cell(task.CutStartTime + " – " + task.CutEndTime + " s");
  const status = cell(chinese ? task.Status : STATUS[task.Status] || task.Status);
  if (task.Status === "执行中") {
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = task.Progress;
    status.append(bar);
  }
  if (task.FailedReason && task.Status === "执行失败") {
    const reason = document.createElement("div");
    reason.className = "reason";
    reason.textContent = task.FailedReason;
    status.append(reason);
  }
  cell(task.StartTime);
  cell(task.EndTime);
  const runs = task.Status === "执行中" || task.Status === "等待执行";
  const buttons = cell(runs ? button(say("stop"), act("/StopTask", task)) : button(say("run"), act("/StartTask", task)));
  if (!runs) buttons.append(" ", button(say("delete"), async () => { if (confirm(say("sure"))) await act("/DeleteTask", task)(); }));
  if (task.Status === "执行成功") buttons.append(" ", button(say("show"), () => show_result(task)));
  return row;
}

async function list() {
  const said = await ask("/TaskList", { PageSize: SIZE, PageNumber: page });
  if (said.ErrorCode !== 0) return;
  total = said.TotalCount;
  const pages = Math.max(1, Math.ceil(total / SIZE));
  if (page > pages) { page = pages; return list(); }
  $("tasks").replaceChildren(...said.Tasks.map(row_of));
  $("empty").hidden = total > 0;
  $("where").textContent = page + " / " + pages;
  $("back").disabled = page <= 1;
  $("next").disabled = page >= pages;
}

async function begin() {
  const said = await (await fetch("/Videos")).json();
  for (const name of said.Videos) $("video").append(new Option(name, name));
  await list();
  let lost = false;
  const again = async () => {
    try {
      await list();
      if (lost) $("message").textContent = "";
      lost = false;
    } catch (error) {
      $("message").textContent = error.message;
      lost = true;
    }
    setTimeout(again, 1000);
  };
  setTimeout(again, 1000);
}

$("create").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("message").textContent = "";
  const said = await ask("/CreateTask", { InputVideo: $("video").value, CutStartTime: Number($("from").value), CutEndTime: Number($("to").value) });
  if (said.ErrorCode === 0) { page = 1; await list(); }
});
$("back").addEventListener("click", () => { page--; list(); });
$("next").addEventListener("click", () => { page++; list(); });
$("close").addEventListener("click", () => { for (const id of ["in", "out"]) $(id).removeAttribute("src"); $("result").close(); });
begin();
