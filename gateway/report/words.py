"""The words of the report around what was said, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Lang = Literal["en", "zh"]

WORDS: Final[Mapping[Lang, Mapping[str, str]]] = {
    "en": {
        "title_call": "Call report",
        "title_task": "Voice QC report",
        "began": "Began",
        "duration": "Duration",
        "app": "App",
        "ended": "Ended",
        "language": "Language",
        "rules_version": "Version of the rules",
        "generated": "Made {at} UTC by Earshot",
        "verdict": "Verdict",
        "passed": "Passed: no rule was hit",
        "failed": "Not passed: a rule was hit",
        "live": "The call is going on; this is how it stands",
        "judging": "Voice QC has not judged this call yet",
        "no_verdict": "There is no verdict",
        "recording": "Recording",
        "recording_hint": "A time opens the recording there. The link works for an hour.",
        "no_recording": "There is no recording to listen to.",
        "timeline": "Timeline",
        "timeline_of": "Timeline from {begin} to {end}",
        "legend": "Legend",
        "speech": "speech",
        "silence": "silence of {seconds} s or more",
        "silence_at": "Silence",
        "talkover": "both speak",
        "gap": "no audio",
        "findings": "Rules",
        "no_findings": "No rule was hit and no alert was raised.",
        "kind": "Outcome",
        "category": "Category",
        "rule": "Rule",
        "keywords": "Keywords",
        "when": "When",
        "confirmed": "alert, confirmed",
        "not_confirmed": "alert, not confirmed",
        "indeterminate": "alert, cannot be told",
        "retracted": "alert, withdrawn",
        "open": "alert, no verdict yet",
        "missed": "hit, missed by alerts",
        "hit": "hit",
        "transcript": "Transcript",
        "transcript_qc": "Made by voice QC from the recording",
        "transcript_live": "Live text; voice QC has made none",
        "no_transcript": "Nothing was said, or nothing was understood.",
        "who": "Speaker",
        "text": "Text",
        "notes": "Notes",
        "dtmf": "key",
        "mark": "mark",
        "statistics": "Statistics",
        "speaking": "Speaking",
        "share": "Share of the call",
        "sentences": "Sentences",
        "speed": "Speed (words or characters a minute)",
        "power": "Loudness (dBFS)",
        "silence_total": "Nobody speaks",
        "silence_longest": "Longest silence",
        "talkover_total": "Both speak",
        "party": "Speaker {number}",
        "agent": "Agent",
        "customer": "Customer",
        "mixed": "Everybody",
        "metadata": "Told by the client",
        "seconds": "{seconds} s",
    },
    "zh": {
        "title_call": "通话报告",
        "title_task": "语音质检报告",
        "began": "开始时间",
        "duration": "时长",
        "app": "应用",
        "ended": "结束原因",
        "language": "语言",
        "rules_version": "规则版本",
        "generated": "由 Earshot 生成于 {at} UTC",
        "verdict": "结论",
        "passed": "通过：未命中任何规则",
        "failed": "不通过：命中规则",
        "live": "通话进行中，以下为当前情况",
        "judging": "质检尚未完成",
        "no_verdict": "没有质检结论",
        "recording": "录音",
        "recording_hint": "点击时间可从该处播放录音，链接一小时内有效。",
        "no_recording": "没有可播放的录音。",
        "timeline": "时间轴",
        "timeline_of": "时间轴 {begin} 至 {end}",
        "legend": "图例",
        "speech": "说话",
        "silence": "静音 {seconds} 秒及以上",
        "silence_at": "静音",
        "talkover": "双方同时说话",
        "gap": "音频缺失",
        "findings": "规则",
        "no_findings": "未命中规则，也没有预警。",
        "kind": "结果",
        "category": "类别",
        "rule": "规则内容",
        "keywords": "关键词",
        "when": "时间",
        "confirmed": "预警，已确认",
        "not_confirmed": "预警，未被确认",
        "indeterminate": "预警，无法判断",
        "retracted": "预警，已撤回",
        "open": "预警，尚无结论",
        "missed": "命中，未预警",
        "hit": "命中",
        "transcript": "转写文本",
        "transcript_qc": "由质检根据录音转写",
        "transcript_live": "实时文本，质检没有转写",
        "no_transcript": "没有说话内容，或无法识别。",
        "who": "说话人",
        "text": "文本",
        "notes": "备注",
        "dtmf": "按键",
        "mark": "标记",
        "statistics": "统计",
        "speaking": "说话时长",
        "share": "占通话比例",
        "sentences": "句数",
        "speed": "语速（字或词/分钟）",
        "power": "音量（dBFS）",
        "silence_total": "静音总时长",
        "silence_longest": "最长静音",
        "talkover_total": "同时说话时长",
        "party": "说话人 {number}",
        "agent": "坐席",
        "customer": "客户",
        "mixed": "全体",
        "metadata": "客户端信息",
        "seconds": "{seconds} 秒",
    },
}
HTML_LANG: Final[Mapping[Lang, str]] = {"en": "en", "zh": "zh-CN"}


def language_for(asked: str | None, accept_language: str) -> Lang:
    """The language of a report: the one asked for by name, else what the browser likes best (RFC 9110, 12.5.4)."""
    for known in get_args(Lang):
        if asked is not None and asked.lower().split("-")[0] == known:
            return known  # type: ignore[no-any-return]  # the names of Lang
    best: Lang = "en"
    best_quality = 0.0
    for part in accept_language[:1000].split(","):
        name, _, weight = part.strip().lower().partition(";q=")
        primary = name.split("-")[0].strip()
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if quality > best_quality and primary in ("en", "zh"):
            best, best_quality = "zh" if primary == "zh" else "en", quality
    return best
