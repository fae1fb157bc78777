"""Words of language, not of the domain: what the parser needs to read a question in five languages.

Names of modalities, methods, tasks and so on come from the knowledge base. Here is only what no entity owns: stop
words, negation, possession, ways to say "black box", "3D" or "fast". All entries are folded: lower case, no diacritics.
"""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _set(
    # English
    """
    a about above access achieve across actual actually after again against all along already also although
    always am among an and another any anybody anyone anything apart appropriate approach approaches are around
    as ask asking at audience audiences available away back based be because become been before being below best
    better between beyond both bring but by call called came can cannot cant case cases certain check choose
    clear come comparable compare compared comparing comparison compute consider could course current currently
    data dataset datasets deep default dear describe did differ difference different do does easier easiest
    cheaper cheapest faster fastest slow slower slowest doesnt doing done dont down each either else end enough
    etc even ever every everything example examples exist expect fair far few figure find first fit fits fitting
    five following for found from full further general get gets getting give given gives giving go goes going
    good got great group had hand handle happen has have having he hello help helpful her here hi him his hope
    how however i idea ideal if im image images imaging in include including individual inform input inputs
    inside instance instead into involve is isnt it its itself just keep kind kinds know known large last later
    lead least less let lets like likely list little ll long look looking looks lot made main mainly major make
    makes making many may maybe me mean means might mine more most mostly much must my myself need needed needs
    never new next nice no non none nor normal not nothing now number of off often ok okay old on once one ones
    only onto open option options or order other others our ours out output outputs over own paper papers part
    particular people per perform performance perhaps person picture pictures place please point possible
    possibly prefer preferably prefers present pretty probably problem produce project proper properly provide
    published put question questions quite radiological radiology rather re read real really reason reasonable
    reasons recent recommend recommendation recommendations recommended regarding related relevant rely require
    required research result results right run running said same say says scan scanned scans second see seem
    seems send serve set setting several shall she should show showing shown shows similar simple simply since
    single situation small so some somebody someone something sort start state still straight study studies such
    suggest suggestion suggestions suit suitable suited suits support sure take taken takes taking task tell
    than thank thanks that the their them themselves then there these they thing things think this those though
    through thus time times to today together too took topic totally toward towards tried true try trying turn
    two type types under understand understanding understandable up upon us use used useful user users uses
    using usual usually various ve versus very via view vs want wanted wants was way ways we well were what
    whats whatever when where wherever whether which while who whole whom whose why widely will wish with within
    without wont word words work working works worse worst would write wrong yes yet you your yours yourself
    """
    # the domain's own small talk
    """
    ai algorithm algorithms analyse analysis analyze answer answers application artificial art bild clinical
    computer convolution convolutional decision decisions deeplearning diagnose diagnosis diagnostic disease
    explain explainability explainable explained explainer explainers explaining explains explanation
    explanations feature features hospital intelligence interpret interpretability interpretable interpretation
    interpretations interpreting learn learned learning library lesion lesions machine map maps medical medicine
    method methods ml model models net nets network networks neural output package patch pathology pipeline
    pixel pixels predict predicted predicting prediction predictions predicts pytorch region regions samples
    scored software structure structures system systems technique techniques tensorflow tool toolbox tools
    trained training transparency transparent trust visual visualise visualising visualize visualizing xai
    """
    # German
    """
    aber alle allem allen aller alles als also am an andere anderen auch auf aufnahme aufnahmen aus ausgabe
    basiert bei beim beispiel beispiele benutzen besser besten beste bester bestes bild bildern bilder bilddaten
    bin bis bitte brauche da dafur damit dann daran darauf das dass daten dem den denn der des die dies diese
    diesem diesen dieser dieses doch du durch eignen eignet erklarbarkeit ein eine einem einen einer eines
    einfach empfehlen empfehlt empfehlung entscheidung er erklaren erklarbar erklarbare erklart erklarung
    erklarungen erklarungsmethode erklarungsmethoden es etwas euch fur gab ganz geeignet geeignete geeigneten
    geht gerade gern gibt gut gute guten habe haben hat hatte heisst hier hilft ich ihr im in indem ins ist ja
    jede jeder jetzt kann kannst klinisch klinische konnen konnte kunstliche lasst man mehr mein meine meinem
    meinen meiner mich mir mit mittels mochte modell modelle modells modellen muss mussen nach netz netze netzes
    netzwerk neben neuronale neuronales nimmt noch nun nur nutzen ob oder ohne passen passt passende sein seine
    selbst sich sie sind sinnvoll so soll sondern lieber sollte sollten statt tiefe tiefes um und uns unser
    unsere unseren unter verfahren vergleich verstehen verwenden verwendet viel vom von vor vorhersage
    vorhersagen wann war warum was weil welche welchem welchen welcher welches wenn wer werden wie wird wir wo
    wofur wollen wurde zeige zeigen zeigt zu zum zur zwischen methode methoden ki technik techniken
    """
    # French
    """
    a ai ainsi alors apprentissage apres au aucun aussi autre autres aux avec avoir avant avons beaucoup bien
    bon bonne c ca car ce cela celle celui ces cet cette ceux chaque chez choisir comme comment conseillez d
    dans de decision decisions depuis des deux doit donc donnees dont du elle elles en entre es est et etait
    etes etre eux expliquer explique explication explications explicabilite explicable fait faire faut
    fonctionne il ils image images interpretabilite j je jai l la laquelle le lequel les lesquelles leur leurs
    lors lui m ma mais me meilleur meilleure meilleures meilleurs meme mes methode methodes mieux mise modele
    modeles moi moins mon montrer n ne nos notre nous on ou ou outil outils par parce pas permet peut peux plus
    plutot pour pourquoi pouvez pouvons prediction predictions profond proposez puis qu quand que quel quelle
    quelles quels qui quoi recommandation recommandez reseau reseaux reseaux s sa sans se selon sera ses si son
    sont sous souhaite souhaitons sur t te technique techniques tous tout toute toutes tres tu un une utile
    utiliser utilise utilises veut veux vers voir vos votre voudrais vous y neurones
    """
    # Spanish
    """
    a adecuado adecuada adecuados adecuadas ademas al algo alguna alguno algun ante antes aprendizaje aqui asi
    aunque bajo bien buena bueno cada clinica clinico como con cual cuales cualquier cuando cuanto datos de debe
    debo debemos deberia decision decisiones del desde donde dos e el ella ellas ellos en entre era es esa ese
    eso esta estas este esto estos esta estan explicacion explicaciones explicabilidad explicable explicar
    explica explique fue funciona ha hacer hacia han hasta hay imagen imagenes interpretabilidad interpretar la
    las le les lo los mas me mejor mejores menos metodo metodos mi mis modelo modelos mostrar mucho muy nada
    necesito neuronal ni no nos nosotros nuestra nuestro o otra otras otro otros para pero poco podria por
    porque prediccion predicciones profundo puede puedo pues que quien quiero recomendacion recomendais
    recomienda recomiendan recomiendas red redes se sea segun ser si sin sirve sobre son su sus tal tambien tan
    tanto te tecnica tecnicas tengo tiene tienen todas todo todos tu tus u un una unas uno unos usa usar uso
    usted utilizar va y ya yo
    """
)
"""Words that carry no content of their own; they are neither matched nor listed as unmatched."""

STOP_CJK = _set(
    """
    知道 这样 那样 哪一种 哪一个 哪种 哪个 哪些 什么样 什么 怎么样 怎么 如何 怎样 为什么 请问 请
    推荐 建议 应该 可以 能够 需要 想要 使用 采用 选择 用于 用来 适合 适用于 适用 最好 更好 最佳
    最 更 比较 方法 技术 算法 工具 模型 网络 神经网络 深度学习 学习 人工智能 机器学习 解释性
    可解释性 可解释 解释 说明 理解 图像 影像 图片 数据 扫描 医学 医疗 临床 诊断 预测 结果 决策
    判断 任务 问题 我们 我 你 您 他 她 它 这个 那个 这 那 是 的 了 吗 呢 吧 和 与 或者 或
    还是 以及 及 对于 对 在 中 上 下 里 给 让 把 被 从 到 为 用 做 有 要 想 会 能 好 个
    种 一 些 并 而 但是 但 而是 不 没 没有 无 非 之 其 所 进行 关于 时 啊 基于 分析 看
    哪里 看到 生成 哪
    """
)
"""Chinese stop words, cut out of what is left between matches."""

NOT = _set(
    """
    not no non without except excluding exclude neither nor avoid avoiding cannot cant dont doesnt isnt wont
    didnt havent hasnt never insteadof ratherthan otherthan nolonger lack lacks lacking apartfrom nicht kein
    keine keinen keiner keinem keines ohne statt anstatt anstelle ausser weder pas sans sauf aulieu plutotque
    hormis jamais sin excepto enlugarde envezde salvo ningun ninguna tampoco
    不是 不要 不用 不想 不使用 不能 不需要 没有 无 无法 无需 非 除了 而不是 不
    """
)
"""Negation cues, joined without spaces."""

NOT_NEGATING = _set(
    "notonly nichtnur passeulement nosolo nosolamente whynot notjust noidea notsure noclue 不仅 不知道 不只 不错"
)
"""Phrases that hold a negation cue and negate nothing."""

AND = _set("or nor and oder und noch ou et ni o y u 或 和 或者 与 及")
"""Words that carry a negation or possession on to the next name."""

FILL = _set(
    """
    a an any the my our your this that these of to for from use using used want wanted wants need needs have
    having has had access on in about with is are it be do does get getting got see compute calculate obtain
    expose exposes provide provides give gives read at all by been plain more den die das der dem ein eine einen
    einem einer auf zu zugriff zugang von mit haben habe will mochte wollen benutzen verwenden nutzen brauche d
    de des du l la le les un une au aux acces utiliser veux avec el los las una unos acceso a al usar quiero con
    tengo utilizar
    有 用 使用 需要 访问 获取 想 的 任何
    """
)
"""What may stand between a cue and the name it governs."""

HAVE = _set("have has with got given own possess habe haben mit avec avons ai con tengo tenemos 有 我有 拥有")
"""Cues that the asker has what is named next."""

UNAVAILABLE = _set("unavailable inaccessible hidden unzuganglich indisponible indisponibles 不可用 不可见")
AVAILABLE = UNAVAILABLE | _set(
    "available accessible exposed possible verfugbar zuganglich disponible disponibles accesible accesibles 可用 可见"
)
"""Words that say of the name before them whether it is at hand."""

BLACK_BOX = _set(
    """
    blackbox blackboxes apionly api apis restapi webservice webapi closedsource proprietary onnx onnxruntime
    tensorrt coreml openvino tflite modelagnostic inferenceonly forwardonly queryonly queryaccess schwarzekiste
    blackboxmodell modellagnostisch boitenoire cajanegra modeloagnostico agnostico
    黑盒 黑箱 模型无关 接口
    """
)
"""Ways to say that only inputs and outputs of the model can be reached, joined without spaces."""

INSIDES = _set(
    """
    gradients gradient gradienten gradientes weights internals parameters layers activations backward
    backpropagation backprop featuremaps gewichte gewichten innere poids couches pesos capas retropropagation
    retropropagacion
    权重 参数 内部 梯度
    """
)
"""The inside of a model; to lack it makes the model a black box."""

ONLY_OUTPUTS = re.compile(
    r"\b(?:only|just|merely|nur|lediglich|seulement|uniquement|solo|solamente|unicamente)\s+(?:\w+\s+){0,5}?"
    r"(?:predictions?|outputs?|probabilit\w+|logits|scores?|vorhersagen?|ausgaben?|wahrscheinlichkeiten|sorties|"
    r"probabilites|predicciones|salidas?|probabilidades)\b"
    r"|\b(?:predictions?|outputs?|probabilities)[\s-]only\b|(?:只有|仅有|只能|仅能|只).{0,5}(?:预测|输出|概率)"
)

DIMENSIONS = {
    "2d": _set(
        """
        2d 2dimensional twodimensional slice slices slicewise slicebyslice zweidimensional 2dimensionale schicht
        schichten coupe coupes bidimensionnel bidimensionnelle corte cortes bidimensional 二维 切片
        """
    ),
    "3d": _set(
        """
        3d 3dimensional threedimensional volume volumes volumetric volumetrics voxel voxels dreidimensional
        dreidimensionale dreidimensionalen volumen volumetrisch volumetrische volumetrique volumiques
        volumetriques tridimensionnel tridimensionnelle tridimensional volumetrico volumetrica 三维 立体 体积
        体数据
        """
    ),
}

BUDGETS = {
    1.0: _set(
        """
        realtime interactive interactively live echtzeit interaktiv tempsreel interactif tiemporeal interactivo
        实时 交互
        """
    ),
    10.0: _set(
        """
        fast quick quickly cheap lightweight schnell schnelle schnelles rapide rapides rapidement rapido rapida
        快速 快
        """
    ),
}
"""Seconds per explanation that a loose word stands for."""

NUMBERS = {"one": 1.0, "two": 2.0, "three": 3.0, "five": 5.0, "ten": 10.0, "thirty": 30.0}
"""Number words of a budget."""

_NUMBER = rf"(\d+(?:[.,]\d+)?|{'|'.join(NUMBERS)})"
_UNIT = (
    r"(ms|milliseconds?|millisekunden?|millisecondes?|milisegundos?|毫秒|s|sec|secs|seconds?|sek|sekunden?|secondes?"
    r"|segundos?|秒钟?|min|mins|minutes?|minuten?|minutos?|分钟|h|hours?|std|stunden?|heures?|horas?|小时)(?![a-z])"
)
_AT_MOST = (
    r"(?:\b(?:under|below|within|in|less than|at most|max|maximum|maximum of|up to|no more than|no longer than"
    r"|faster than|budget|budget of|budget is|unter|innerhalb|innerhalb von|weniger als|hochstens|maximal|moins de"
    r"|au plus|menos de|dentro de|en|como maximo|a lo sumo)\b|<=?|≤|不超过|少于|低于)"
)
_AFTER = r"(?:per (?:image|explanation|scan)|each|at most|or less|max|budget|pro bild|par image|por imagen|之?以?内)"
BUDGET = (
    re.compile(rf"{_AT_MOST}\s*:?\s*{_NUMBER}\s*-?{_UNIT}"),
    re.compile(rf"{_NUMBER}\s*-?{_UNIT}\s*{_AFTER}"),
)
"""Ways to say how long an explanation may take: number and unit are the groups."""


def seconds(number: str, unit: str) -> float:
    """Return a duration in seconds.

    Args:
        number: Digits with a point or comma, or a word of :data:`NUMBERS`.
        unit: A unit that :data:`BUDGET` finds.
    """
    value = float(number.replace(",", ".")) if number[0].isdigit() else NUMBERS[number]
    if unit.startswith(("ms", "mil", "毫")):
        return value / 1000
    if unit.startswith(("min", "分")):
        return value * 60
    if unit.startswith(("h", "st", "小")):
        return value * 3600
    return value


INTRINSIC = _set(
    """
    intrinsic intrinsically interpretablebydesign explainablebydesign selfexplaining selfexplainable antehoc
    inherently inherentlyinterpretable retrain retraining trainanew builtin builtininterpretability
    interpretablemodel glassbox intrinsisch intrinsische selbsterklarend selbsterklarende neutrainieren
    intrinseque intrinseques autoexplicatif reentrainer intrinseco intrinseca autoexplicativo reentrenar
    内在可解释 自解释 重新训练
    """
)
"""The asker is ready to build the explanation into the model."""

DOMAIN = _set(
    """
    ai method methods methode methoden metodo metodos explain explainability explainable explainer explainers
    explaining explains explanation explanations interpret interpretability interpretable interpretation
    saliency heatmap heatmaps xai model models network networks classifier predictions prediction neural
    erklaren erklarung erklarungen erklarbar erklarbare erklarungsmethode modell modelle ki netz netzwerk
    expliquer explication explications explicabilite modele modeles reseau explicar explicacion explicaciones
    explicabilidad modelo modelos
    解释 可解释 模型 网络
    """
)
"""Words that show that a question is about explaining models at all."""

NAMES_THAT_ARE_WORDS = _set("us pet mr rise oct ace tv cat mg pt nm cr dx ig dl scanner")
"""Short names that are words or other abbreviations in lower case.

They are taken only in capitals, or beside a word that supports them.
"""

ADDRESSED = _set("patient patients patienten pacientes")
"""People who are in most questions; only "for patients" makes them the audience."""

ADDRESSING = _set("for to the my our fur pour aux para los unsere meine inform")
"""What stands before them then."""

SUPPORT = _set(
    """
    image images imaging scan scans slice slices volume volumes data frame frames video videos probe examination
    exam machine scanner bild bilder aufnahmen examen imagen imagenes
    """
)
"""Words after a short name that make it a modality even in lower case ("us images")."""
