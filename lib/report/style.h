#pragma once

namespace attar {

/// The report's look: light and dark by the reader's setting, cards on a phone, black on white on paper. Colours are read by the charts' script too.
inline constexpr const char* kReportStyle = R"css(
:root{--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#dfe3e8;--accent:#0b62a8;--good:#12794a;--good-bg:#dff3e7;--bad:#b3261e;
--bad-bg:#fbe4e2;
--open:#6b5b00;--open-bg:#f6efcf;--chosen:#eef7f1;--code:#f0f2f5;--c1:#0b62a8;--c2:#d06a00;--c3:#7a4bb8;--c4:#12794a;--right:18,121,74;--wrong:190,
60,30}
@media screen and (prefers-color-scheme:dark){:root{--bg:#101418;--card:#181d23;--ink:#e7eaee;--soft:#9aa5b1;--line:#2c343d;--accent:#6db3f2;
--good:#6fd3a0;--good-bg:#12372a;
--bad:#ff9b92;--bad-bg:#47201d;--open:#e6cf6a;--open-bg:#3a3415;--chosen:#15271f;--code:#11161b;--c1:#6db3f2;--c2:#f2a65a;--c3:#bb9af0;--c4:#6fd3a0;
--right:80,190,135;--wrong:235,105,75}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1220px;margin:0 auto;padding:24px 20px 64px}
header,section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:22px 26px;margin:0 0 18px}
.eyebrow{margin:0;color:var(--soft);font-size:13px;letter-spacing:.06em;text-transform:uppercase}
h1{margin:2px 0 8px;font-size:30px;line-height:1.2;overflow-wrap:anywhere}
h2{margin:0 0 10px;font-size:21px}h3{margin:24px 0 8px;font-size:17px}h4{margin:20px 0 6px;font-size:15px;color:var(--soft)}
h2+h3,.note+h3{margin-top:8px}
p{margin:0 0 10px}.lead{font-size:18px;max-width:75ch}.missed{color:var(--bad)}.note{color:var(--soft);font-size:14px;max-width:95ch}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;margin:0 4px 18px;font-size:15px}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
.verdict{display:inline-block;border-radius:999px;padding:1px 12px;font-size:.82em;font-weight:600;white-space:nowrap}
h1 .verdict{font-size:17px;vertical-align:5px;margin-left:6px;text-transform:uppercase;letter-spacing:.05em}
.pass{color:var(--good);background:var(--good-bg)}.fail{color:var(--bad);background:var(--bad-bg)}.open{color:var(--open);background:var(--open-bg)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin-top:16px}
.tile{border:1px solid var(--line);border-radius:8px;padding:12px 16px}
.tile .label{color:var(--soft);font-size:14px}.tile .value{font-size:28px;font-weight:650;line-height:1.25}
.tile .under{color:var(--soft);font-size:13.5px}
.wide{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th,td{padding:7px 9px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;font-weight:400}
thead th{color:var(--soft);font-size:13px;vertical-align:bottom;border-bottom-width:2px}
th.name{font-weight:600;overflow-wrap:break-word;max-width:22em}table.narrow{max-width:760px}.number{text-align:right;white-space:nowrap}
td.number,th.number{font-variant-numeric:tabular-nums}
tr.chosen>*{background:var(--chosen)}
.interval{color:var(--soft);font-size:.88em;white-space:nowrap}.under,.kind{display:block;color:var(--soft);font-size:12.5px;font-weight:400}
.tile .under,.tile .interval,.lead .under{display:inline}.lead .under{font-size:.85em}.tile>.under{display:block}.none{color:var(--soft)}
.tag{font-size:11.5px;font-weight:600;color:var(--soft);border:1px solid var(--line);border-radius:4px;padding:0 5px;white-space:nowrap}
.tag.chosen{color:var(--good);border-color:var(--good)}
figure{margin:0 0 14px}figcaption{color:var(--soft);font-size:14px;margin-bottom:4px}
.canvas{position:relative;height:250px}.large .canvas{height:400px}.square{max-width:520px}.square .canvas{height:400px}
.large figcaption{display:none}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:12px 32px}.grid figcaption{font-weight:600;color:var(--ink)}
.choose select{font:inherit;background:var(--card);color:var(--ink);border:1px solid var(--line);border-radius:6px;padding:3px 8px}
.pair{display:grid;grid-template-columns:minmax(0,max-content) minmax(330px,1fr);gap:10px 36px;align-items:start}.pair>*{min-width:0}
table.confusion{width:auto;font-size:12.5px;border-collapse:separate;border-spacing:1px}
.confusion caption{caption-side:bottom;text-align:left;color:var(--soft);padding-top:6px}
.confusion td,.confusion th{padding:3px 5px;border:0}
.confusion tbody td{text-align:center;min-width:34px;background:rgba(127,127,127,.07);border-radius:3px}
.confusion td.right[style]{background:color-mix(in srgb,rgb(var(--right)) var(--s),transparent)}
.confusion td.wrong[style]{background:color-mix(in srgb,rgb(var(--wrong)) var(--s),transparent)}
.confusion thead th{height:112px;vertical-align:bottom;padding:0;border:0}
.confusion thead span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:150px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;
display:inline-block;padding:2px 0}
.confusion tbody th{text-align:right;white-space:nowrap;color:var(--soft);max-width:180px;overflow:hidden;text-overflow:ellipsis;position:sticky;
left:0;background:var(--card)}
table.bars{max-width:720px}.bars td.bar{width:45%;vertical-align:middle}.bar span{display:block;height:9px;border-radius:3px;background:var(--c1)}
details{border:1px solid var(--line);border-radius:8px;padding:0 14px;margin:0 0 10px}
summary{cursor:pointer;padding:8px 0;font-size:15px}details[open]>summary{border-bottom:1px solid var(--line);margin-bottom:12px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px}
code{overflow-wrap:anywhere}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;margin:0 0 12px}
pre code{overflow-wrap:normal}
ul.files{list-style:none;margin:0;padding:0;font-size:13px}.notes{color:var(--soft);font-size:14px;padding-left:20px}
dl{display:grid;grid-template-columns:minmax(130px,max-content) 1fr;gap:6px 18px;margin:0;font-size:14.5px}dt{font-weight:600}
dd{margin:0;color:var(--soft)}
@media (max-width:700px){main{padding:12px 10px 40px}header,section{padding:16px 14px;border-radius:8px}h1{font-size:25px}.lead{font-size:16.5px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:9px 11px}.tile .value{font-size:22px}.large .canvas,.square .canvas{height:320px}
.grid,.pair{grid-template-columns:minmax(0,1fr)}
.cards{overflow:visible}.cards thead{display:none}.cards tbody,.cards tr{display:block}
.cards th,.cards td{display:block;overflow:hidden;text-align:right;border:0;padding:3px 0;white-space:normal}.cards .number{white-space:normal}
.cards td::before{content:attr(data-label);color:var(--soft);float:left;text-align:left;max-width:50%;margin-right:14px}.cards td ul{text-align:right}
.cards th.name{display:block;text-align:left;font-size:16px;padding-bottom:4px}.cards tr{padding:10px 0;border-bottom:1px solid var(--line)}
.cards tr:last-child{border:0}
.cards tr.chosen{background:var(--chosen);margin:0 -8px;padding:10px 8px;border-radius:6px}.cards td>.under{display:inline;margin-left:4px}
.cards td code.hash{font-size:11.5px;max-width:75%}
dl{display:block}dd{margin:0 0 8px}}
@media print{body{background:#fff;font-size:10.5pt}main{max-width:none;padding:0}nav,.choose{display:none}
header,section{border:0;border-radius:0;padding:0 0 8px;break-inside:auto}
h2,h3,h4{break-after:avoid}figure,tr,.tile,pre{break-inside:avoid}.wide{overflow:visible}table{font-size:8.5pt}th,td{padding:3px 5px}
.number{white-space:normal}
pre{white-space:pre-wrap}.lead{font-size:12pt}.large .canvas{height:300px}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)css";

}  // namespace attar
